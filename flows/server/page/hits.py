"""What was found, as cards; and the dialogs behind a card: the item itself, and why it was found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import PurePosixPath

from nicegui import ui

from flows.server.models import HitBody, ItemBody, KnownBody, WhyAnswer
from flows.server.page.visit import Visit, button, icon_button, paragraph, picture, score

_TITLE = 90  # characters

Deed = Callable[[ItemBody], Awaitable[None]]
Deeds = Mapping[str, tuple[str, Deed]]
"""Further things to do with a hit: label, icon, deed."""


def title_of(item: ItemBody) -> str:
    """What an item is called: its words, of many captions the first, or else its file."""
    words = item.text if len(item.text) <= _TITLE else item.text.split(" · ")[0]
    return words or PurePosixPath(item.uri).name or item.key


def clock(seconds: float) -> str:
    """A time as a person reads it.

    >>> clock(75.2), clock(4_640)
    ('1:15', '1:17:20')
    """
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Gallery:
    """The cards of a search; more of them may follow."""

    def __init__(self, visit: Visit, modality: str, like: Deed, why: Deed, more: Deeds) -> None:
        self._visit, self._like, self._why, self._more = visit, like, why, more
        kind = {"text": "texts"}.get(modality, modality)
        self._list = ui.element("ul").classes(f"gallery {kind}").props(f'aria-label="{visit.said["results"]}"')

    def show(self, hits: Sequence[HitBody]) -> None:
        """Put further cards behind those that are there."""
        with self._list:
            for hit in hits:
                with ui.element("li").classes("card"):
                    self._card(hit)

    def _card(self, hit: HitBody) -> None:
        said = self._visit.said
        _medium(self._visit, hit)
        with ui.element("div").classes("about"):
            if hit.text:
                paragraph(hit.text, "words")
            elif hit.uri:
                paragraph(PurePosixPath(hit.uri).name, "name")
            if hit.start is not None and hit.start >= 1:
                paragraph(f"{said['from']} {clock(hit.start)}", "small")
            if hit.folded:
                paragraph(f"+ {len(hit.folded)} {said['copies']}", "small")
            self._score(hit)
            with ui.element("div").classes("deeds"):
                button(said["like"], on_click=lambda: self._like(hit))
                button(said["why"], on_click=lambda: self._why(hit)).classes("why")
                if hit.modality != "text":
                    for name, (icon, deed) in self._more.items():
                        icon_button(icon, said[name], on_click=lambda deed=deed: deed(hit))

    def _score(self, hit: HitBody) -> None:
        said = self._visit.said
        if hit.probability is not None:
            score(said["probability"], hit.probability)
        elif hit.similarity is not None:
            score(said["similarity"], hit.similarity)
        else:
            score(said["by_words"], None)


def _medium(visit: Visit, hit: HitBody) -> None:
    """The picture or the player at the top of a card; a text has none."""
    if hit.media is None:
        return
    at = hit.start or 0.0
    if hit.modality == "video":
        player = ui.element("video").props("controls preload=none playsinline")
        player.props["src"], player.props["poster"] = f"{hit.media}#t={at:.1f}", f"{hit.thumbnail}?size=320&at={at:.1f}"
        player.props["aria-label"] = title_of(hit)
        return
    shot = ui.element("button").classes("shot").props("type=button")
    shot.props["aria-label"] = f"{visit.said['open']}: {title_of(hit)}"
    shot.on("click", lambda: show_item(visit, hit.key))
    with shot:
        picture(f"{hit.thumbnail}?size=320", title_of(hit))
    if hit.modality == "audio":
        shot.classes("wave")
        _audio(hit, at)
    elif hit.uri.lower().endswith(".svg"):
        shot.classes("whole")


def _audio(item: ItemBody, at: float) -> None:
    player = ui.element("audio").props("controls preload=none")
    player.props["src"], player.props["aria-label"] = f"{item.media}#t={at:.1f}", title_of(item)


async def show_item(visit: Visit, key: str) -> None:
    """A dialog with one item, large, and what is known of it."""
    with ui.dialog() as dialog, ui.card().classes("sheet"):
        body = ui.element("div")
    dialog.on("hide", dialog.delete)
    dialog.open()
    item = await visit.run(lambda: visit.service.item(key), body)
    if item is not None:
        with body:
            _head(visit, title_of(item), dialog)
            _view(visit, item)


def _head(visit: Visit, title: str, dialog: ui.dialog) -> None:
    with ui.element("div").classes("head"):
        with ui.element("h2"):
            ui.label(title)
        icon_button("close", visit.said["close"], on_click=dialog.close)


def _view(visit: Visit, item: KnownBody) -> None:
    with ui.element("div").classes("view"):
        if item.modality == "image":
            shown = picture(f"{item.thumbnail}?size=1280", title_of(item))
            if item.uri.lower().endswith(".svg"):
                shown.classes("white")
        elif item.modality == "video":
            player = ui.element("video").props("controls playsinline")
            player.props["src"], player.props["poster"] = item.media, f"{item.thumbnail}?size=640"
        elif item.modality == "audio":
            picture(f"{item.thumbnail}?size=640", title_of(item))
            _audio(item, 0.0)
        facts = {
            visit.said["collection"]: item.collection,
            visit.said["split"]: item.split,
            visit.said["file"]: item.uri,
        }
        facts |= {name: str(value) for name, value in item.attributes.items() if value is not None}
        with ui.element("dl").classes("facts"):
            for name, value in facts.items():
                if value:
                    with ui.element("dt"):
                        ui.label(name)
                    with ui.element("dd"):
                        ui.label(value[:500])
        if item.pairs:
            paragraph(visit.said["paired"], "eyebrow")
            with ui.element("ul").classes("list"):
                for one in item.pairs[:12]:
                    with ui.element("li"):
                        if one.thumbnail:
                            picture(f"{one.thumbnail}?size=160", title_of(one))
                        paragraph(title_of(one))


async def show_why(visit: Visit, work: Callable[[], WhyAnswer]) -> None:
    """A dialog with the known pairs behind a hit."""
    with ui.dialog() as dialog, ui.card().classes("sheet"):
        _head(visit, visit.said["why_title"], dialog)
        paragraph(visit.said["why_told"], "told")
        body = ui.element("div")
    dialog.on("hide", dialog.delete)
    dialog.open()
    visit.wait(body, "searching")
    found = await visit.run(work, body)
    if found is None:
        return
    body.clear()
    with body:
        if not found.evidence:
            paragraph(visit.said["why_none"], "told")
        with ui.element("ul").classes("pairs"):
            for pair in found.evidence:
                with ui.element("li").classes("pair"):
                    _side(visit, pair.near_query, f"{visit.said['near_query']} · {pair.query_similarity:.0%}")
                    with ui.element("span").classes("joint").props("aria-hidden=true"):
                        ui.icon("link", size="1.3em")
                    _side(visit, pair.near_hit, f"{visit.said['near_hit']} · {pair.hit_similarity:.0%}")


def _side(visit: Visit, item: ItemBody, told: str) -> None:
    with ui.element("div").classes("side"):
        if item.thumbnail:
            picture(f"{item.thumbnail}?size=160", title_of(item))
        with ui.element("div"):
            paragraph(title_of(item))
            paragraph(f"{visit.name(item.modality)} · {told}", "small")
