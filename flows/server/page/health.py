"""The space in force and the health of its index, for a person."""

from __future__ import annotations

from nicegui import ui

from flows.server.page.visit import Visit, paragraph


def show_health(visit: Visit, place: ui.element) -> None:
    """Draw it anew into `place`."""
    said, now = visit.said, visit.service.health()
    space = visit.service.in_force.now().manifest["space"]
    tiles = [
        (said["space"], now.space, now.space_id),
        (said["rows"], f"{now.rows:,}", " · ".join(visit.name(one) for one in now.modalities)),
        (said["index"], now.index, ""),
        (said["recall"], f"{now.recall:.3f}", said["recall_hint"]),
        (said["method"], str(space["method"]), f"{said['width']} {space['dim']}"),
        (said["pairs"], f"{space['pairs']:,}", ""),
    ]
    place.clear()
    with place:
        with ui.element("h1").classes("title"):
            ui.label(said["health_title"])
        paragraph(said[f"status_{now.status}"], "told")
        with ui.element("dl").classes("tiles"):
            for name, value, more in tiles:
                with ui.element("div").classes("tile"):
                    with ui.element("dt"):
                        ui.label(name)
                    with ui.element("dd"):
                        ui.label(value)
                    if more:
                        with (
                            ui.element("dd")
                            .classes("small")
                            .style("font-size: .84rem; font-weight: 400; letter-spacing: 0")
                        ):
                            ui.label(more)
        with ui.element("p").classes("told").style("margin-top: 28px"):
            ui.label(f"{said['for_programs']}: ").style("display: inline")
            for path in ("/docs", "/openapi.json", "/healthz", "/metrics"):
                ui.link(path, path).style("margin-right: 14px")
