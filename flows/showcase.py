"""The end of the demo: the table of results and a few searches a person can judge."""

from __future__ import annotations

from pathlib import Path

from config.settings import Settings
from flows.tables import console_for, show_ingest, show_metrics, show_next
from storage.workspace import Workspace
from tasks.refs import Outcome
from tasks.search import Searcher

QUERIES = ("something to eat", "an angry face", "a vehicle with two wheels", "weather with lightning", "猫")
PICTURE = "1F34E.svg"  # a red apple


def show_demo(settings: Settings, outcome: Outcome) -> None:
    """Print the results, text → image, a Chinese word through full text, and image → text."""
    metrics = outcome.score.metrics
    show_ingest(outcome.ingested)
    show_metrics(metrics)
    console = console_for()
    searcher = Searcher(Workspace(root=settings.workspace, tables_uri=settings.tables_uri), metrics["name"])
    console.print("\n[bold]Some searches[/] (over all pictures, those the heads were fitted on among them)")
    for query in QUERIES:
        answer = searcher.by_text(query, target="image", k=5)
        found = "  ".join(f"{hit.attributes['emoji']} {_name(hit.text)}" for hit in answer.hits)
        console.print(f"  {query!r} → image ({answer.mode}): {found}", highlight=False)
    from tasks.sources.demo import DemoSource

    answer = searcher.by_file(Path(DemoSource().root) / PICTURE, target="text", k=5)
    found = "  ·  ".join(_name(hit.text) for hit in answer.hits)
    console.print(f"  picture {PICTURE} 🍎 → text: {found}", highlight=False)
    show_next(settings, "something sweet")


def _name(words: str) -> str:
    return words.partition(" · ")[0].partition(", ")[0]
