"""The end of a demo: the table of results and a few searches a person can judge."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from flows.console import console_for
from flows.tables import show_ingest, show_metrics, show_next
from storage.workspace import Workspace
from tasks.refs import Outcome
from tasks.search import Answer, Query, Searcher
from tasks.sources.tuxpaint import PACKAGE

QUERIES = ("something to eat", "an angry face", "a vehicle with two wheels", "weather with lightning", "猫")
PICTURE = "1F34E.svg"  # a red apple
WORDS = ("a bird that sings", "something with an engine", "music", "狗")
STAMPS = (
    "animals/birds/rooster",
    "animals/mammals/elephant",
    "hobbies/music/string/violin",
    "vehicles/emergency/firetruck",
)


def show_demo(settings: Settings, outcome: Outcome) -> None:
    """Print the results, text → image, a Chinese word through full text, and image → text."""
    metrics = outcome.score.metrics
    show_ingest(outcome.ingested)
    show_metrics(metrics)
    console = console_for()
    searcher = Searcher(Workspace(root=settings.workspace, tables_uri=settings.tables_uri), metrics["name"])
    console.print("\n[bold]Some searches[/] (over all pictures, those the heads were fitted on among them)")
    for query in QUERIES:
        answer = searcher.search(Query(text=query), target="image", k=5)
        found = "  ".join(f"{hit.attributes['emoji']} {_name(hit.text)}" for hit in answer.hits)
        console.print(f"  {query!r} → image ({answer.mode}): {found}", highlight=False)
    from tasks.sources.demo import DemoSource

    answer = searcher.search(Query(file=Path(DemoSource().root) / PICTURE), target="text", k=5)
    found = "  ·  ".join(_name(hit.text) for hit in answer.hits)
    console.print(f"  picture {PICTURE} 🍎 → text: {found}", highlight=False)
    show_next(settings, "something sweet")


def show_stamps(settings: Settings, outcome: Outcome) -> None:
    """Print the results, and searches: words → picture and sound, picture → sound, sound → picture."""
    metrics = outcome.score.metrics
    show_ingest(outcome.ingested)
    show_metrics(metrics)
    console = console_for()
    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    searcher = Searcher(workspace, metrics["name"])
    console.print("\n[bold]Some searches[/] (over all stamps, those the heads were fitted on among them)")
    for words in WORDS:
        for target in ("image", "audio"):
            answer = searcher.search(Query(text=words), target=target, k=4)
            console.print(f"  {words!r} → {target} ({answer.mode}): {_files(answer)}", highlight=False)
    for stamp in STAMPS:
        for suffix, target in ((".png", "audio"), (".ogg", "image")):
            answer = searcher.search(Query(file=workspace.packages / PACKAGE / f"{stamp}{suffix}"), target=target, k=4)
            asked = "sound" if target == "image" else "picture"
            console.print(f"  {asked} {Path(stamp).name} → {target}: {_files(answer)}", highlight=False)
    show_next(settings, "a bird that sings")


def _files(answer: Answer) -> str:
    return "  ·  ".join(Path(hit.uri).stem.replace("_", " ") for hit in answer.hits)


def _name(words: str) -> str:
    return words.partition(" · ")[0].partition(", ")[0]
