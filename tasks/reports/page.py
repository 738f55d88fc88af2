"""The page: one HTML file that needs nothing but itself."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from tasks.reports.contents import Report
from tasks.reports.sections import Sections, contents

_HERE = Path(__file__).parent
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_SECTION = re.compile(r'<section id="(\w+)">')


def render(report: Report) -> str:
    """A report as HTML: no request leaves it, and what comes from data is text in it, never markup."""
    sections = Sections(report)
    body = "".join(
        (
            sections.summary(),
            sections.quality(),
            sections.examples(),
            sections.slices(),
            sections.meaning(),
            sections.shape(),
            sections.growth(),
            sections.speed(),
            sections.data(),
            sections.origin(),
        )
    )
    name = escape(str(report.metrics["name"]))
    links = contents(_SECTION.findall(body))
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{name}: evaluation</title><style>{style}</style></head><body>"
        f'<header class="top"><div class="page"><div class="eyebrow"><span>Evaluation of <b>{name}</b></span>'
        '<button id="theme" type="button" hidden aria-label="light or dark">Dark</button></div>'
        f"{sections.headline()}{sections.said()}{_chips(report)}</div></header>"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav><main class="page">{body}</main>'
        f'<footer class="page">Made by modalign on {escape(report.made)}. Every figure stands in metrics.json of the '
        "space, or in the file beside this one.</footer>"
        f"<script>{script}</script></body></html>\n"
    )


def _chips(report: Report) -> str:
    metrics = report.metrics
    facts = (
        ("split", metrics["split"]),
        ("method", metrics["method"]),
        ("training pairs", f"{metrics['training_pairs']:,}"),
        ("width", metrics["dim"]),
        ("collections", ", ".join(metrics["collections"])),
        ("space", metrics["space"]),
    )
    shown = "".join(f"<li>{name} <b>{escape(str(value))}</b></li>" for name, value in facts)
    return f'<ul class="chips">{shown}</ul>'
