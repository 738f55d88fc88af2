"""Captions and answers: a medium is given, and words about it come back with what they were taken from."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from flows.server.models import AskRequest, CaptionRequest, ItemBody
from flows.server.page.hits import title_of
from flows.server.page.visit import File, Visit, paragraph, picture, score


class _MediumPanel:
    """A place for a medium on the left, what is said about it on the right."""

    def __init__(self, visit: Visit, title: str, told: str) -> None:
        self._visit = visit
        self._file: File | None = None
        self._item: ItemBody | None = None
        self._turn = 0
        with ui.element("h1").classes("title"):
            ui.label(visit.said[title])
        paragraph(visit.said[told], "told")
        with ui.element("div").classes("two"):
            with ui.element("section"):
                self._drop = ui.element("div").classes("drop")
                self._form()
            self._said = ui.element("section").classes("result").props("aria-live=polite")
        media = tuple(one for one in visit.modalities if one != "text")
        with self._drop:
            self._shown = ui.element("div")
            self._box = visit.uploader(self._took, lambda: self._said, media)
            choose = ui.button(visit.said["choose"], icon="upload", color=None).props("unelevated no-caps")
            choose.classes("primary").on("click", js_handler=f"() => modalign.pick({self._box.id})")
            paragraph(
                f"{visit.said['drop']} · {visit.said['bounds']} {visit.service.settings.max_upload // 1_000_000} MB",
                "small",
            )
        self._drop.on("dragover", js_handler="(e) => { e.preventDefault(); e.currentTarget.classList.add('over') }")
        self._drop.on("dragleave", js_handler="(e) => e.currentTarget.classList.remove('over')")
        self._drop.on("drop", js_handler=f"(e) => modalign.drop(e, {self._box.id})")

    def _form(self) -> None:
        """What else is to be filled in."""

    async def say(self) -> None:
        """Find the words, and show them."""
        raise NotImplementedError

    async def give(self, item: ItemBody) -> None:
        """Take an item of the space as the medium."""
        self._file, self._item = None, item
        self._show(f"{item.thumbnail}?size=320" if item.thumbnail else "", title_of(item))
        await self.say()

    async def _took(self, file: File) -> None:
        self._file, self._item = file, None
        self._show(file.picture, file.name)
        await self.say()

    def _show(self, address: str, name: str) -> None:
        self._shown.clear()
        with self._shown:
            if address:
                picture(address, name)
            paragraph(name, "small")

    def _evidence(self, evidence: Sequence[tuple[ItemBody | None, str, float]]) -> None:
        """What speaks for it: an item, words and how near."""
        if not evidence:
            return
        paragraph(self._visit.said["evidence"], "eyebrow")
        with ui.element("ul").classes("list"):
            for item, words, near in evidence:
                with ui.element("li"):
                    if item is not None and item.thumbnail:
                        picture(f"{item.thumbnail}?size=160", title_of(item))
                    paragraph(words)
                    ui.label(f"{near:.2f}").classes("small")

    def _notes(self, notes: Sequence[str]) -> None:
        for note in notes:
            paragraph(note, "note")


class CaptionPanel(_MediumPanel):
    """A caption for a medium."""

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit, "caption_title", "caption_told")

    async def say(self) -> None:
        """Find a caption, and show it."""
        visit, data, item = self._visit, self._file.data if self._file else None, self._item
        self._turn += 1
        turn = self._turn
        visit.wait(self._said, "captioning")
        asked = CaptionRequest(item=item.key if item else None)
        found = await visit.run(lambda: visit.service.caption(asked, data), self._said)
        if found is None or turn != self._turn:
            return
        self._said.clear()
        with self._said:
            paragraph(visit.said["caption_made"], "eyebrow")
            paragraph(found.text, "said")
            paragraph(f"{visit.said['agreement']} {found.score:.2f}", "small")
            self._notes(found.notes)
            self._evidence([(one.item, one.text, one.score) for one in found.evidence])


class AskPanel(_MediumPanel):
    """An answer to a question about a medium."""

    def __init__(self, visit: Visit) -> None:
        super().__init__(visit, "ask_title", "ask_told")

    def _form(self) -> None:
        said = self._visit.said
        with ui.element("div").classes("form"):
            self._question = ui.input(said["question"]).props("outlined maxlength=2000")
            self._candidates = ui.input(said["candidates"]).props("outlined maxlength=2000")
            go = ui.button(said["ask_go"], color=None, on_click=self.say).props("unelevated no-caps").classes("primary")
            go.style("justify-self: start")
        self._question.on("keydown.enter", self.say)
        self._candidates.on("keydown.enter", self.say)

    async def say(self) -> None:
        """Find an answer, and show it."""
        visit, data, item = self._visit, self._file.data if self._file else None, self._item
        question = (self._question.value or "").strip()
        if not question:
            self._question.run_method("focus")
            return
        if data is None and item is None:
            visit.refuse(self._said, visit.said["need_medium"])
            return
        choices = [one.strip() for one in (self._candidates.value or "").replace("，", ",").split(",") if one.strip()]
        self._turn += 1
        turn = self._turn
        visit.wait(self._said, "captioning")
        asked = AskRequest(question=question, item=item.key if item else None, candidates=choices or None)
        found = await visit.run(lambda: visit.service.ask(asked, data), self._said)
        if found is None or turn != self._turn:
            return
        self._said.clear()
        with self._said:
            paragraph(question, "eyebrow")
            paragraph(found.answer if found.answer is not None else visit.said["unknown"], "said")
            if found.confidence is not None:
                score(visit.said["confidence"], found.confidence)
            paragraph(f"{visit.said['how']}: {visit.said[f'how_{found.how}']}", "small")
            self._notes(found.notes)
            if len(found.alternatives) > 1:
                paragraph(visit.said["alternatives"], "eyebrow")
                for one in found.alternatives[:4]:
                    score(one.answer, one.share)
            self._evidence(
                [(one.item, f"{one.question} {one.answer}".strip(), one.similarity) for one in found.evidence]
            )
