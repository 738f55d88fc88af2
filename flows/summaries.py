"""Artifacts of a run, for Prefect's UI: where the time went, and the table of metrics."""

from __future__ import annotations

import re
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from tasks.refs import Decision, Ingested, ScoreRef, Updated, UpdatePlan


def ingest_summary(done: Ingested) -> None:
    """A markdown artifact: counts, splits, and the seconds of reader, encoder and writer by stage."""
    lines = [
        f"# Ingest of {done.collection}",
        "",
        f"{done.rows:,} rows in {done.groups.groups:,} groups; items by split: "
        + ", ".join(f"{name} {count:,}" for name, count in done.groups.splits.items())
        + f"; quarantined {done.quarantined:,}; media on both sides of a split {done.groups.media_leaks:,}.",
        "",
        "| encoder | encoded | read s | encode s | write s | wall s | items/s |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join(str(value) for value in stage.values()) + " |" for stage in stage_table(done)]
    if not done.stages:
        lines.append("| nothing was pending | 0 | | | | | |")
    create_markdown_artifact("\n".join(lines), key=_key("ingest", done.collection), description="Where the time went")


def stage_table(done: Ingested) -> list[dict[str, Any]]:
    """Reader, encoder and writer seconds of each encoder, summed over its shards. They overlap, so wall is less."""
    out: dict[str, dict[str, Any]] = {}
    for stage in done.stages:
        row = out.setdefault(
            stage.encoder,
            {"encoder": stage.encoder, "encoded": 0, "read": 0.0, "encode": 0.0, "write": 0.0, "wall": 0.0},
        )
        row["encoded"] += stage.encoded
        for name in ("read", "encode", "write", "wall"):
            row[name] = round(row[name] + getattr(stage, f"{name}_seconds"), 2)
    for row in out.values():
        row["rate"] = round(row["encoded"] / row["wall"]) if row["wall"] else 0
    return list(out.values())


def score_artifacts(score: ScoreRef) -> None:
    """A table artifact of the metrics by direction, and a markdown one with the headline."""
    figures = score.metrics
    create_table_artifact(score_rows(figures), key=_key("metrics", figures["name"]), description="Metrics by direction")
    low, high = figures["rsum_interval"]
    text = (
        f"# {figures['name']}: rsum {figures['rsum']:.1f} ({low:.1f} to {high:.1f})\n\n"
        f"On split `{figures['split']}`, space `{figures['space']}`; without the hubness correction "
        f"{figures['rsum_raw']:.1f}. Index {figures['ann']['kind']}: recall@10 {figures['ann']['recall']:.3f}.\n\n"
        + "".join(f"- the encoders {note}\n" for note in figures["seen"])
    )
    create_markdown_artifact(text, key=_key("headline", figures["name"]), description="The headline")


def decision_artifact(decision: Decision) -> None:
    """A markdown artifact: whether the space was promoted, why, and the figures of the gate."""
    lines = [
        f"# {decision.name}: {decision.event} {decision.space_id}",
        "",
        decision.reason,
        "",
        "| figure | value |",
        "|---|---|",
        *(
            f"| {name} | {round(value, 4) if isinstance(value, float) else value} |"
            for name, value in decision.figures.items()
        ),
    ]
    create_markdown_artifact("\n".join(lines), key=_key("promotion", decision.name), description="The gate's decision")


def plan_artifact(plan: UpdatePlan) -> None:
    """A table artifact: what an update would do, one row a collection and kind of change."""
    rows: list[dict[str, Any]] = []
    for one in plan.collections:
        for kind in ("added", "changed", "edited", "moved", "removed"):
            rows += [
                {"collection": one.collection, "what": f"{modality} {kind}", "count": count}
                for modality, count in getattr(one, kind).items()
            ]
        rows += [
            {"collection": one.collection, "what": f"vectors of {work.encoder}", "count": work.vectors}
            for work in one.work
        ]
    create_table_artifact(rows, key="plan", description="What an update would do")


def update_artifacts(done: Updated) -> None:
    """A markdown artifact of an update: what changed, what it cost, and how the spaces in force stand."""
    lines = [
        "# Update",
        "",
        f"{done.seconds:,.1f} s",
        "",
        "| collection | rows | written | removed | encoded | quarantined |",
    ]
    lines.append("|---|---|---|---|---|---|")
    for one in done.ingested:
        encoded = sum(stage.encoded for stage in one.stages)
        counts = (one.rows, one.written, one.removed, encoded, one.quarantined)
        lines.append(f"| {one.collection} | " + " | ".join(f"{count:,}" for count in counts) + " |")
    lines += [
        "",
        "| space | projected | edited | removed | recall@10 | rsum | at promotion | due for a refit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for space in done.spaces:
        stale, moved = space.staleness, space.projected
        scores = ["" if score is None else f"{score:.1f}" for score in (stale.rsum, stale.rsum_promoted)]
        cells = [
            f"{moved.projected:,}",
            f"{moved.edited:,}",
            f"{moved.removed:,}",
            f"{space.aligned.index.index.recall:.3f}",
        ]
        lines.append(f"| {space.name} | " + " | ".join([*cells, *scores, "; ".join(stale.reasons) or "no"]) + " |")
    lines += ["", *(f"- {reason}" for reason in done.skipped)]
    create_markdown_artifact("\n".join(lines), key="update", description="What the update did")
    for space in done.spaces:
        if space.decision is not None:
            decision_artifact(space.decision)


def score_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a metric and direction: value, interval, without correction, chance, control."""
    rows = []
    for direction, report in figures["directions"].items():
        for name, cell in report.items():
            if not isinstance(cell, dict) or "value" not in cell:
                continue
            low, high = cell.get("interval", (None, None))
            rows.append(
                {
                    "direction": direction.replace("_to_", "→"),
                    "metric": name,
                    "value": round(cell["value"], 4),
                    "low": None if low is None else round(low, 4),
                    "high": None if high is None else round(high, 4),
                    "raw": round(report["raw"][name], 4),
                    "chance": round(report["chance"][name]["value"], 4) if name in report["chance"] else None,
                    "shuffled": round(report["control"][name], 4) if name in report["control"] else None,
                }
            )
    return rows


def _key(kind: str, name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{kind}-{name}".lower()).strip("-")
