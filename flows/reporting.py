"""The report on a space, as a file and in Prefect's UI."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import cast

from prefect.artifacts import Artifact, create_image_artifact, create_markdown_artifact

from flows.summaries import key_of
from storage.marks import remembered
from storage.workspace import Workspace
from tasks.policies import code_version
from tasks.refs import Aligned, ReportRef, ScoreRef
from tasks.report import before_of, report_file, report_of, write_report
from tasks.reports import charts
from tasks.reports.contents import Report
from tasks.reports.raster import png

_CODE = ("tasks/report.py", "tasks/retrievals.py", "tasks/showing.py", "tasks/again.py", "tasks/reports")


def assess_report(workspace: Workspace, aligned: Aligned, score: ScoreRef) -> ReportRef:
    """The report of an assessed space under reports, and its key plots as image artifacts.

    One whose figures and space are still the same is not made again.
    """
    digest = hashlib.blake2b(json.dumps(score.metrics, sort_keys=True).encode(), digest_size=8).hexdigest()

    def make() -> ReportRef:
        report = report_of(workspace, aligned, score.metrics)
        path = write_report(workspace, report)
        plot_artifacts(report)
        create_markdown_artifact(
            f"# Report on {aligned.space.name}\n\nOpen `{path}` in a browser: one file, which needs no network.",
            key=key_of("report", aligned.space.name),
            description=f"{aligned.space.name}: the report on space {aligned.space.space_id}",
        )
        return ReportRef(space_id=aligned.space.space_id, path=str(path))

    there = report_file(workspace, aligned.space.name).is_file()
    before = before_of(workspace.store, aligned, score.metrics)
    rival = "" if before is None else before["space"]
    inputs = f"{aligned.space.space_id} {digest} {rival} {code_version(*_CODE)}"
    tables = (aligned.space.table,)
    return remembered(workspace.store, f"report {aligned.space.name}", tables, inputs, ReportRef, make, anew=not there)


def plot_artifacts(report: Report) -> None:
    """Image artifacts: the curve of hit rates, reliability and hubness of the first direction, and the map."""
    name = str(report.metrics["name"])
    direction, figures = next(iter(report.metrics["directions"].items()))
    plots = {
        "hit-rates": charts.hit_rates(direction, figures),
        "reliability": charts.reliability(direction, figures),
        "hubness": charts.hubness(direction, figures),
        "learning": charts.learning(report.further.get("curve")),
        "map": charts.embedding_map(report.places),
    }
    for kind, svg in plots.items():
        if svg:
            _image(
                key_of(f"plot-{kind}", name), f"{name}: {kind.replace('-', ' ')}", png(svg, 1 if kind == "map" else 2)
            )


def _image(key: str, about: str, data: bytes) -> None:
    """An image artifact; one that shows what the last one shows is not made again."""
    url = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    last = cast("Artifact | None", Artifact.get(key))
    if last is None or last.data != url:
        create_image_artifact(url, key=key, description=about)
