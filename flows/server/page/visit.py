"""One visitor's page: the language, the service, and what every part of the page needs of them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from nicegui import events, ui

from config.errors import ModalignError
from flows.server import thumbnails, uploads
from flows.server.errors import ApiError
from flows.server.page.labels import words
from flows.server.service import Service
from storage.errors import StorageError
from tasks.media.registry import MediaError

logger = logging.getLogger(__name__)
R = TypeVar("R")
Taken = Callable[["File"], Awaitable[None]]

ACCEPT = {"image": "image/*,.svg", "audio": "audio/*", "video": "video/*,.mkv"}


class File:
    """An uploaded file: its bytes, the name it was sent under, which is only shown, and a small picture of it."""

    def __init__(self, service: Service, name: str, data: bytes) -> None:
        self.name, self.data = name[:200], data
        self.modality = service.modality_of(data)
        try:
            drawn = service.drawn(self.modality, data, 320, 0.0, uploads.LIMITS)
        except MediaError as error:
            raise ApiError(422, error.code, error.message, "choose another file") from None
        self.picture = f"data:{thumbnails.TYPE};base64,{base64.b64encode(drawn).decode('ascii')}"


class Visit:
    """What a visitor sees is made through this."""

    def __init__(self, service: Service, language: str) -> None:
        self.service, self.language, self.said = service, language, words(language)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the space in force holds, what is no text first."""
        known = self.service.in_force.now().searcher.modalities
        return tuple(sorted(known, key=lambda one: one == "text"))

    def name(self, modality: str) -> str:
        """A modality in the visitor's words."""
        return self.said.get(modality, modality)

    async def run(self, work: Callable[[], R], place: ui.element) -> R | None:
        """Do `work` in a thread; None where it is refused, and `place` says why."""
        try:
            return await self.service.run(work)
        except ApiError as error:
            self.refuse(place, error.fault.message, error.fault.mend)
        except (ModalignError, StorageError) as error:
            self.refuse(place, error.message, error.mend)
        except Exception:
            logger.exception("a request of the page failed")
            self.refuse(place, self.said["see_log"])
        return None

    def refuse(self, place: ui.element, message: str, mend: str = "") -> None:
        """Say in `place` what went wrong."""
        place.clear()
        with place, ui.element("div").classes("alert").props("role=alert"):
            with ui.element("b"):
                ui.label(self.said["failed"])
            ui.label(f"{message}{'; ' if mend else ''}{mend}")

    def wait(self, place: ui.element, what: str) -> None:
        """Say in `place` that something is under way."""
        place.clear()
        with place, ui.element("div").classes("waiting").props("role=status"):
            ui.spinner(size="1.4em").props("aria-hidden=true")
            ui.label(f"{self.said[what]} …")

    def uploader(self, took: Taken, place: Callable[[], ui.element], modalities: tuple[str, ...]) -> ui.upload:
        """The unseen part that takes a file; what is no medium is refused in `place`."""
        most = self.service.settings.max_upload

        async def uploaded(event: events.UploadEventArguments) -> None:
            name, data = event.file.name, await event.file.read()
            box.reset()
            file = await self.run(lambda: File(self.service, name, data), place())
            if file is not None:
                await took(file)

        def rejected() -> None:
            self.refuse(place(), self.said["too_large"], f"{self.said['bounds']} {most // 1_000_000} MB")

        box = ui.upload(auto_upload=True, max_file_size=most, on_upload=uploaded, on_rejected=rejected)
        accepted = ",".join(ACCEPT[one] for one in modalities if one in ACCEPT)
        return box.classes("hidden").props(f'aria-hidden=true accept="{accepted}"')


def button(label: str, icon: str | None = None, **more: Any) -> ui.button:
    """A flat button with words."""
    return ui.button(label, icon=icon, color=None, **more).props("flat no-caps dense")


def icon_button(icon: str, label: str, **more: Any) -> ui.button:
    """A round button without words: the label is told to who cannot see it, and to who points at it."""
    made = ui.button(icon=icon, color=None, **more).props(f'flat round aria-label="{_prop(label)}"').classes("quiet")
    with made:
        ui.tooltip(label)
    return made


def picture(address: str, alt: str) -> ui.element:
    """An image, loaded when it comes into view."""
    made = ui.element("img")
    made.props["src"], made.props["alt"], made.props["loading"] = address, alt, "lazy"
    return made


def paragraph(text: str, classes: str = "") -> None:
    """A text as text, whatever stands in it."""
    with ui.element("p").classes(classes):
        ui.label(text).classes("inline").style("display: inline")


def score(label: str, value: float | None) -> None:
    """A figure between 0 and 1 with its name and a bar; without a value the name alone."""
    with ui.element("div").classes("score"):
        ui.label(label)
        if value is not None:
            ui.label(f"{value:.0%}" if value >= 0.01 or value <= 0 else "<1%")
            share = max(0.0, min(1.0, value))
            with ui.element("div").classes("track").props("aria-hidden=true"):
                ui.element("div").classes("fill").style(f"width: {share:.1%}")


def _prop(text: str) -> str:
    return text.replace('"', "'")
