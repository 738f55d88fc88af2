"""The page, driven in a headless Chromium that is installed on this machine; skipped where there is none."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tasks.caption import Captioner
from tests.flows.server.conftest import CAPTION, Made

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next((path for name in NAMES if (path := shutil.which(name))), None)
SIZES = {"wide": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}

pytestmark = pytest.mark.skipif(FOUND is None, reason=f"no Chromium on this machine ({', '.join(NAMES)})")


@pytest.fixture(scope="module")
def address(made: Made) -> Iterator[str]:
    """`modalign serve` in a process of its own, ended by Ctrl-C."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    # pytest's own mark makes NiceGUI behave otherwise
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    words = [sys.executable, "-m", "flows", "serve", "-w", str(made.workspace.root), "--port", str(port)]
    process = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            try:
                urlopen(f"{url}/healthz").close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert url in out
        assert "Traceback" not in err, err
        assert process.returncode == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=SIZES)
def page(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page at a width; at its end nothing was complained of, and nothing asked of another host."""
    context = browser.new_context(viewport=SIZES[request.param], locale="en-US")
    page = context.new_page()
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("websocket", lambda line: asked.append(line.url))
    page.goto(address)
    yield page
    assert page.title() == "modalign"  # no caption's script has run
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context.close()
    assert not told
    host = address.removeprefix("http://")
    assert not [url for url in asked if not url.startswith((f"http://{host}/", f"ws://{host}/", "data:", "blob:"))]


def search(page: Page, words: str) -> None:
    """Type a query, by the keyboard alone."""
    box = page.get_by_role("textbox", name="What are you looking for?")
    expect(box).to_be_focused()
    page.keyboard.type(words)
    page.keyboard.press("Enter")
    expect(page.locator(".card").first).to_be_visible()


def test_a_query_shows_the_right_picture_and_why(page: Page) -> None:
    """A described picture is the first one, it is really drawn, and its evidence are known pairs."""
    search(page, "a yellow circle at the left")
    first = page.locator(".card").first
    expect(first.locator(".words")).to_contain_text("yellow circle at the left")
    expect(first.locator("img")).to_have_js_property("naturalWidth", 48)
    expect(first.locator(".track")).to_be_visible()
    first.get_by_role("button", name="Why?").click()
    expect(page.get_by_role("dialog").locator(".pair").first).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    first.get_by_role("button", name="More like this").click()
    expect(page.locator(".given")).to_contain_text("More like this item")
    expect(page.locator(".card").first).to_be_visible()


@pytest.mark.parametrize("page", ["wide"], indirect=True)
def test_a_file_filters_and_texts(page: Page, made: Made) -> None:
    """An uploaded picture finds its captions among the texts; a filter narrows, a wrong one is explained in words."""
    page.locator(".ask input[type=file]").set_input_files(made.source / "0003.png")
    expect(page.locator(".given")).to_contain_text("0003.png")
    page.get_by_role("button", name="Texts").click()
    expect(page.locator(".gallery.texts .words").first).to_contain_text("a ")
    page.get_by_role("button", name="Filters and options").click()
    box = page.locator(".options input[type=text]").first
    box.fill("nonsense")
    box.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("nonsense")
    box.fill("price<3")
    box.press("Enter")
    expect(page.locator(".summary h2")).to_contain_text("6 hits")


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_a_picture_is_captioned_and_asked_about(page: Page, made: Made) -> None:
    """An uploaded picture gets the core's caption with its evidence; a question gets the choice that fits."""
    page.get_by_role("tab", name="Caption").click()
    page.locator(".drop input[type=file]").set_input_files(made.source / "0003.png")
    caption = Captioner(made.workspace).caption(file=made.source / "0003.png").text
    expect(page.locator(".said:visible")).to_have_text(caption)
    expect(page.locator(".result:visible .list img").first).to_have_js_property("naturalWidth", 48)
    page.get_by_role("tab", name="Ask").click()
    expect(page.get_by_role("heading", name="Ask about it")).to_be_visible()
    page.locator(".drop input[type=file]").set_input_files(made.source / "0003.png")
    expect(page.locator(".drop img")).to_be_visible()
    page.get_by_label("Choices").fill("a yellow circle at the left, a black cross at the right")
    page.get_by_label("Your question").fill("what is this?")
    page.keyboard.press("Enter")
    expect(page.locator(".said:visible")).to_have_text("a yellow circle at the left")


@pytest.mark.parametrize("page", ["wide"], indirect=True)
def test_html_is_text_and_a_bad_file_is_refused(page: Page, tmp_path: Path) -> None:
    """A caption that is HTML is read, not run; a file that is no medium is refused in words."""
    page.get_by_role("button", name="Texts").click()
    page.get_by_role("textbox", name="What are you looking for?").focus()
    search(page, CAPTION)
    expect(page.locator(".words").filter(has_text="onerror")).to_have_count(1)
    bad = tmp_path / "words.png"
    bad.write_bytes(b"no picture at all")
    page.locator(".ask input[type=file]").set_input_files(bad)
    expect(page.get_by_role("alert")).to_contain_text("no picture, sound or video")


def test_the_language_the_map_and_the_health(page: Page, made: Made) -> None:
    """The switch turns every label to Chinese and is remembered; the map is drawn; health names the space in force."""
    page.get_by_role("button", name="Change the language to Chinese").click()
    expect(page.get_by_role("heading", name="想找什么？")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh")
    page.reload()
    page.get_by_role("tab", name="地图").click()
    expect(page.locator(".map canvas")).to_be_visible()
    page.get_by_role("tab", name="状态").click()
    expect(page.locator(".tiles")).to_contain_text(made.first["space"]["space_id"])
    page.get_by_role("button", name="切换到英文").click()
    expect(page.get_by_role("heading", name="What answers")).to_be_visible()
