"""The frame of the page: its head with tabs, language and light, and the panels below. Mounted on the API's own app."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from nicegui import events, ui

from flows.server.models import ItemBody
from flows.server.page.about_media import AskPanel, CaptionPanel
from flows.server.page.health import show_health
from flows.server.page.labels import LANGUAGES, preferred
from flows.server.page.map import MapPanel
from flows.server.page.search import SearchPanel
from flows.server.page.visit import Visit, icon_button
from flows.server.service import Service

_TABS = ("search", "caption", "ask", "map", "health")
_ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><circle cx='16' cy='16' r='15' fill='#4450c4'/>"
    "<circle cx='21' cy='11' r='4' fill='#fff'/></svg>"
)


def attach(app: FastAPI, service: Service) -> None:
    """Let the app answer `/` with the page; all its files come from the installed package."""
    style = files("flows.server.page").joinpath("style.css").read_text(encoding="utf-8")
    script = files("flows.server.page").joinpath("page.js").read_text(encoding="utf-8")

    @ui.page("/", title="modalign", favicon=_ICON)
    def page(request: Request) -> None:
        chosen = request.cookies.get("modalign_language", "")
        language = chosen if chosen in LANGUAGES else preferred(request.headers.get("accept-language", ""))
        dark = {"dark": True, "light": False}.get(request.cookies.get("modalign_light", ""))
        ui.add_css(style)
        ui.add_body_html(f"<script>{script}</script>")
        Shell(Visit(service, language), dark=dark)

    ui.run_with(app, title="modalign", dark=None, tailwind=False, show_welcome_message=False, reconnect_timeout=30)


class Shell:
    """The page of one visitor."""

    def __init__(self, visit: Visit, *, dark: bool | None) -> None:
        self._visit = visit
        self._dark = ui.dark_mode(dark)
        self._tab = "search"
        ui.on("refused", lambda event: ui.notify(str(event.args)))
        self._body = ui.element("div")
        self._draw()

    def _draw(self) -> None:
        self._body.clear()
        said = self._visit.said
        with self._body:  # whose parts asked for this may be gone
            ui.run_javascript(f"document.documentElement.lang = '{self._visit.language}'")
            ui.link(said["skip"], "#main").classes("skip")
            with ui.element("header").classes("bar"), ui.element("div").classes("bar-in"):
                ui.label("modalign").classes("mark").props(f'title="{said["tagline"]}"')
                self._tabs = ui.tabs(on_change=self._turn).classes("tabs").props("inline-label no-caps dense")
                self._tabs.value = self._tab
                with self._tabs:
                    for name in _TABS:
                        ui.tab(name, label=said[f"tab_{name}"])
                ui.element("div").classes("grow")
                switch = ui.button(said["language"], color=None, on_click=self._other_language)
                switch.props(f'flat no-caps dense aria-label="{said["language_hint"]}"').classes("quiet language")
                icon_button("contrast", said["dark"], on_click=self._light)
            with ui.element("main").classes("main").props("id=main tabindex=-1"):
                self._panels(self._tabs)

    def _panels(self, tabs: ui.tabs) -> None:
        visit = self._visit
        with ui.tab_panels(tabs, value=self._tab, animated=False).props("keep-alive"):
            with ui.tab_panel("search"):
                place = ui.element("div")
            with ui.tab_panel("caption"):
                self._caption = CaptionPanel(visit)
            with ui.tab_panel("ask"):
                self._ask = AskPanel(visit)
            with ui.tab_panel("map"):
                self._map = MapPanel(visit)
            with ui.tab_panel("health"):
                self._health = ui.element("section")
        with place:
            deeds = {
                "caption_this": ("subtitles", self._caption_item),
                "ask_this": ("help_outline", self._ask_item),
            }
            self._search = SearchPanel(visit, deeds)

    async def _caption_item(self, item: ItemBody) -> None:
        self._tabs.value = "caption"
        await self._caption.give(item)

    async def _ask_item(self, item: ItemBody) -> None:
        self._tabs.value = "ask"
        await self._ask.give(item)

    async def _turn(self, event: events.ValueChangeEventArguments[Any]) -> None:
        self._tab = str(event.value)
        await self._show_tab()

    async def _show_tab(self) -> None:
        if self._tab == "map":
            await self._map.look()
        elif self._tab == "health":
            show_health(self._visit, self._health)

    async def _other_language(self) -> None:
        former = self._search
        self._visit = Visit(self._visit.service, next(one for one in LANGUAGES if one != self._visit.language))
        ui.run_javascript(f"modalign.remember('modalign_language', '{self._visit.language}')")
        self._draw()
        with self._body:
            ui.run_javascript("document.querySelector('.language')?.focus()")
            await self._search.resume(former)
            await self._show_tab()

    async def _light(self) -> None:
        shown = await ui.run_javascript("document.body.classList.contains('body--dark')")
        self._dark.value = not shown
        ui.run_javascript(f"modalign.remember('modalign_light', '{'light' if shown else 'dark'}')")
