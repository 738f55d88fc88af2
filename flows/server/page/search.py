"""The search: words, a file, a sound from the microphone or an item; filters; what was found."""

from __future__ import annotations

import json

from nicegui import ui

from flows.server.models import ItemBody, SearchAnswer, SearchRequest, WhyRequest
from flows.server.page.hits import Deeds, Gallery, show_why, title_of
from flows.server.page.labels import EXAMPLES
from flows.server.page.visit import File, Visit, button, icon_button, paragraph, picture
from tasks.conditions import parse

_HITS = 24  # a page


class SearchPanel:
    """The search of one visitor. `more` are further things to do with a hit, by label."""

    def __init__(self, visit: Visit, more: Deeds) -> None:
        self._visit, self._more = visit, more
        self._file: File | None = None
        self._item: ItemBody | None = None
        self._where: list[str] = []
        self._target = visit.modalities[0]
        self._turn = 0  # an answer that comes after a later question is not shown
        self._asked = SearchRequest()
        self._data: bytes | None = None
        self._draw()

    def _draw(self) -> None:
        said = self._visit.said
        self._hero = ui.element("section").classes("hero first").props(f'aria-label="{said["tab_search"]}"')
        with self._hero:
            with ui.element("h1").classes("title"):
                ui.label(said["query"])
            with ui.element("div").classes("ask").props("role=search"):
                self._words = ui.input(placeholder=said["query_hint"]).props(
                    f'borderless dense clearable maxlength=2000 aria-label="{said["query"]}" autofocus'
                )
                self._words.on("keydown.enter", self.go)
                self._buttons()
                go = (
                    ui.button(color=None, icon="search", on_click=self.go)
                    .classes("primary")
                    .props("unelevated no-caps")
                )
                go.props["aria-label"] = said["go"]
                with go:
                    ui.label(said["go"]).classes("label").style("margin-left: 6px")
            self._given = ui.element("div")
            with ui.element("div").classes("row under"):
                self._segments: dict[str, ui.button] = {}
                with ui.element("div").classes("seg").props(f'role=group aria-label="{said["found_in"]}"'):
                    for one in self._visit.modalities:
                        self._segments[one] = ui.button(
                            self._visit.name(one), color=None, on_click=lambda one=one: self._aim(one)
                        ).props("flat no-caps")
                self._show_segments()
                opener = button(said["options"], icon="tune", on_click=self._toggle).classes("quiet")
                opener.props("aria-expanded=false")
                self._opener = opener
            self._options = ui.element("div").classes("options form hidden")
            with self._options:
                self._show_options()
        self._found = ui.element("section").props(f'aria-label="{said["results"]}"')
        with self._found:
            self._welcome()

    def _buttons(self) -> None:
        said, visit = self._visit.said, self._visit
        media = tuple(one for one in visit.modalities if one != "text")
        box = visit.uploader(self._took, lambda: self._found, media)
        icon_button("add_photo_alternate", said["upload"]).on("click", js_handler=f"() => modalign.pick({box.id})")
        if "audio" in media:
            mic = icon_button("mic", said["record"])
            refused = json.dumps(said["record_refused"])
            mic.on("click", js_handler=f"(e) => modalign.record(e.currentTarget, {box.id}, {refused})")

    def _welcome(self) -> None:
        said = self._visit.said
        with ui.element("div").classes("centre"):
            paragraph(said["welcome"], "small")
        with ui.element("div").classes("row under").style("margin-top: 8px"):
            for example in EXAMPLES[self._visit.language]:
                ui.button(example, color=None, on_click=lambda example=example: self._try(example)).classes(
                    "pill"
                ).props("flat no-caps")

    async def _try(self, words: str) -> None:
        self._words.value = words
        await self.go()

    def _show_segments(self) -> None:
        for modality, made in self._segments.items():
            on = modality == self._target
            made.classes(add="on" if on else "", remove="" if on else "on")
            made.props["aria-pressed"] = str(on).lower()
            made.update()

    def _show_options(self) -> None:
        said = self._visit.said
        filters = ui.input(said["filter"]).props("outlined dense").classes("filter")
        filters.props["hint"] = said["filter_hint"]
        self._filter = filters
        filters.on("keydown.enter", self._add_filter)
        self._chips = ui.element("div").classes("row")
        with ui.element("div").classes("row"):
            modes = {mode: said[f"mode_{mode}"] for mode in ("auto", "vector", "text", "hybrid")}
            self._mode = (
                ui.select(modes, value="auto", label=said["mode"]).props("outlined dense").style("min-width: 170px")
            )
            self._fold = ui.switch(said["fold"])
            with ui.element("div").classes("weight"):
                ui.label(said["weight"])
                self._weight = ui.slider(min=0, max=1, step=0.1, value=0.5)
                self._weight.props(f'aria-label="{said["weight"]}"').on("change", self._again)
        self._mode.on_value_change(self._again)
        self._fold.on_value_change(self._again)

    def _toggle(self) -> None:
        hidden = "hidden" in self._options.classes
        self._options.classes(remove="hidden") if hidden else self._options.classes("hidden")
        self._opener.props(f"aria-expanded={str(hidden).lower()}")

    async def _add_filter(self) -> None:
        written = self._filter.value.strip()
        if not written:
            return
        if await self._visit.run(lambda: parse([written]), self._found) is None:
            return
        self._where.append(written)
        self._filter.value = ""
        self._show_chips()
        await self._again()

    def _show_chips(self) -> None:
        self._chips.clear()
        with self._chips:
            for written in self._where:
                made = button(written, icon="close", on_click=lambda written=written: self._drop(written)).classes(
                    "pill"
                )
                made.props["aria-label"] = f"{self._visit.said['clear']}: {written}"

    async def _drop(self, written: str) -> None:
        self._where.remove(written)
        self._show_chips()
        await self._again()

    async def _aim(self, modality: str) -> None:
        self._target = modality
        self._show_segments()
        await self._again()

    async def _took(self, file: File) -> None:
        self._file, self._item = file, None
        self._show_given()
        await self.go()

    async def resume(self, former: SearchPanel) -> None:
        """Go on where another panel was: the same search, in another language."""
        self._file, self._item, self._where = former._file, former._item, former._where
        self._target, self._words.value = former._target, former._words.value
        self._mode.value, self._fold.value = former._mode.value, former._fold.value
        self._weight.value = former._weight.value
        self._show_segments()
        self._show_given()
        self._show_chips()
        await self.go()

    async def like(self, item: ItemBody) -> None:
        """Search with an item, for more of its kind."""
        self._file, self._item = None, item
        self._words.value = ""
        self._target = item.modality
        self._show_segments()
        self._show_given()
        await self.go()
        with self._found:  # the card that asked for it is gone
            ui.run_javascript("scrollTo({top: 0}); document.querySelector('.summary')?.focus({preventScroll: true})")

    def _show_given(self) -> None:
        """The medium that is searched with, and how to take it away again."""
        said = self._visit.said
        self._given.clear()
        if self._file is None and self._item is None:
            return
        with self._given, ui.element("div").classes("given"):
            if self._file is not None:
                picture(self._file.picture, self._file.name)
                told = f"{said['with_file']}: {self._file.name}"
            else:
                assert self._item is not None
                if self._item.thumbnail:
                    picture(f"{self._item.thumbnail}?size=160", "")
                told = f"{said['like_of']}: {title_of(self._item)}"
            with ui.element("span"):
                ui.label(told).style("display: inline")
            icon_button("close", said["clear"], on_click=self._forget)

    async def _forget(self) -> None:
        self._file, self._item = None, None
        self._show_given()
        await self._again()

    async def _again(self) -> None:
        if self._asked.text or self._asked.item or self._data:
            await self.go()

    async def go(self) -> None:
        """Search with what is given, and show what was found."""
        words = (self._words.value or "").strip() or None
        if words is None and self._file is None and self._item is None:
            self._found.clear()
            with self._found:
                self._welcome()
            return
        self._turn += 1
        turn = self._turn
        self._asked = SearchRequest(
            text=words,
            item=self._item.key if self._item else None,
            text_weight=self._weight.value,
            target=self._target if self._target in self._visit.modalities else None,
            k=_HITS,
            where=list(self._where),
            mode=self._mode.value,
            fold=self._fold.value,
        )
        self._data = self._file.data if self._file else None
        self._hero.classes(remove="first")
        self._visit.wait(self._found, "searching")
        asked, data = self._asked, self._data
        answer = await self._visit.run(lambda: self._visit.service.search(asked, data), self._found)
        if answer is not None and turn == self._turn:
            self._show(answer)

    def _show(self, answer: SearchAnswer) -> None:
        said = self._visit.said
        self._found.clear()
        with self._found:
            with ui.element("div").classes("summary").props("role=status tabindex=-1"):
                with ui.element("h2"):
                    count = f"{len(answer.hits)}{'+' if answer.more else ''}"
                    ui.label(f"{count} {said['hit' if count == '1' else 'hits']}")
                paragraph(
                    f"{said[f'mode_{answer.mode}']} · {answer.seconds * 1_000:.0f} ms · "
                    f"{answer.space} {answer.space_id}",
                    "note",
                )
                for note in answer.notes:
                    paragraph(note, "note")
            if not answer.hits:
                paragraph(said["nothing"], "told")
                return
            gallery = Gallery(self._visit, answer.target, self.like, self._why, self._more)
            gallery.show(answer.hits)
            if answer.more:
                with ui.element("div").classes("centre") as foot:
                    button(said["more"], on_click=lambda: self._further(gallery, foot, len(answer.hits))).classes(
                        "pill"
                    )

    async def _further(self, gallery: Gallery, foot: ui.element, offset: int) -> None:
        asked, data, turn = self._asked.model_copy(update={"offset": offset}), self._data, self._turn
        answer = await self._visit.run(lambda: self._visit.service.search(asked, data), foot)
        if answer is None or turn != self._turn:
            return
        gallery.show(answer.hits)
        foot.clear()
        ui.run_javascript(f"document.querySelectorAll('.card')[{offset}]?.querySelector('button')?.focus()")
        if answer.more:
            with foot:
                button(
                    self._visit.said["more"],
                    on_click=lambda: self._further(gallery, foot, offset + len(answer.hits)),
                ).classes("pill")

    async def _why(self, item: ItemBody) -> None:
        asked, data = WhyRequest(key=item.key, text=self._asked.text, item=self._asked.item), self._data
        await show_why(self._visit, lambda: self._visit.service.why(asked, data))
