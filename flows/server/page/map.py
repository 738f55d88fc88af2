"""The map: a sample of the space on a plane, coloured by modality; pointing at an item shows it."""

from __future__ import annotations

from typing import Any

from nicegui import events, ui

from flows.server.page.hits import show_item, title_of
from flows.server.page.visit import Visit, paragraph
from flows.server.plane import Place

COLOURS = {"image": "#5b67e8", "text": "#d9822b", "audio": "#2a9d77", "video": "#c2418c"}


class MapPanel:
    """Drawn when it is first looked at; another space is drawn anew."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._shown = ""
        with ui.element("h1").classes("title"):
            ui.label(visit.said["map_title"])
        paragraph(visit.said["map_told"], "told")
        self._place = ui.element("div")

    async def look(self) -> None:
        """Draw the space in force, unless it is what is seen already."""
        opened = self._visit.service.in_force.now()
        if self._shown == opened.space_id:
            return
        self._visit.wait(self._place, "map_drawing")
        places = await self._visit.run(self._visit.service.map, self._place)
        if places is None:
            return
        self._shown = opened.space_id
        self._place.clear()
        with self._place:
            chart = ui.echart(_options(self._visit, places), on_point_click=self._chosen).classes("map")
            chart.props["role"], chart.props["aria-label"] = "img", self._visit.said["map_title"]
            paragraph(f"{len(places):,} {self._visit.said['map_of']} {opened.rows:,}", "small")

    async def _chosen(self, event: events.EChartPointClickEventArguments) -> None:
        chosen: Any = event.data  # that of a series, which is ours
        key = chosen.get("key") if isinstance(chosen, dict) else None
        if isinstance(key, str):
            await show_item(self._visit, key)


def _options(visit: Visit, places: list[Place]) -> dict[str, Any]:
    """What ECharts draws."""
    series = []
    for modality in visit.modalities:
        data = [
            {
                "value": [round(one.x, 4), round(one.y, 4)],
                "key": one.item.key,
                "name": title_of(one.item)[:160],
                "picture": f"{one.item.thumbnail}?size=160" if one.item.thumbnail else "",
            }
            for one in places
            if one.item.modality == modality
        ]
        series.append(
            {
                "type": "scatter",
                "name": visit.name(modality),
                "symbolSize": 7,
                "data": data,
                "itemStyle": {"color": COLOURS.get(modality, "#888"), "opacity": 0.72},
                "emphasis": {"scale": 2.2, "itemStyle": {"opacity": 1}},
            }
        )
    axis = {"show": False, "scale": True}
    return {
        "animation": False,
        "grid": {"left": 12, "right": 12, "top": 48, "bottom": 12},
        "legend": {"top": 12, "textStyle": {"color": "#8a8d96", "fontSize": 13}, "icon": "circle"},
        "tooltip": {
            "confine": True,
            ":formatter": "modalign.tip",
            "extraCssText": "max-width: 260px; white-space: normal; border-radius: 12px; border: 0;",
        },
        "xAxis": axis,
        "yAxis": axis,
        "dataZoom": [{"type": "inside", "xAxisIndex": 0}, {"type": "inside", "yAxisIndex": 0}],
        "series": series,
    }
