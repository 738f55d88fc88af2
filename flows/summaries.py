"""Artifacts of a run, for Prefect's UI: what it did, where the time went, and how well the space ranks."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from storage import catalog
from storage.spaces import PSEUDO_PAIRS_FILE, slug_of
from storage.workspace import Workspace
from tasks.refs import (
    Captioned,
    Decision,
    DuplicateReport,
    Ingested,
    Mined,
    ScoreRef,
    SpaceRef,
    TrainedRef,
    Updated,
    UpdatePlan,
    Usage,
)
from tasks.reports.words import reach

_CAPTIONS = 50  # that a person reads
_FAULTS = 100  # rows of quarantine that a person reads; `modalign quarantine list` has them all


def ingest_summary(done: Ingested) -> None:
    """A markdown artifact: counts, splits, and the seconds of reader, encoder and writer by stage."""
    lines = [
        f"# Ingest of {done.collection}",
        "",
        f"{done.rows:,} rows in {done.groups.groups:,} groups; items by split: "
        + ", ".join(f"{name} {count:,}" for name, count in done.groups.splits.items())
        + f"; quarantined {done.quarantined:,}; media on both sides of a split {done.groups.media_leaks:,}.",
        "",
        "| encoder | encoded | read s | encode s | write s | wall s | items/s | starved | blocked | ready |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join(str(value) for value in stage.values()) + " |" for stage in stage_table(done)]
    if not done.stages:
        lines.append("| nothing was pending | 0 | | | | | | | | |")
    lines += [] if done.usage is None else _usage_table(done.usage)
    create_markdown_artifact("\n".join(lines), key=key_of("ingest", done.collection), description=ingest_line(done))


def quarantine_artifact(workspace: Workspace, collection: str, count: int) -> None:
    """A table artifact: what could not be read in a collection and why, the first hundred of them."""
    faults = catalog.faults(workspace.store, collection)[:_FAULTS] if count else []
    rows = [
        {
            "what": one["locator"],
            "reason": one["code"],
            "message": one["message"],
            "stage": one["stage"],
            "attempts": one["attempts"],
            "since": one["first_seen"].strftime("%Y-%m-%d %H:%M"),
        }
        for one in faults
    ]
    shown = f"; the first {_FAULTS}" if count > _FAULTS else ""
    about = f"{collection}: {count:,} not readable{shown}" if count else f"{collection}: everything could be read"
    create_table_artifact(
        rows or [{"what": "nothing is quarantined"}], key=key_of("quarantine", collection), description=about
    )


def duplicates_artifact(space: str, report: DuplicateReport) -> str:
    """A table artifact: near-duplicates across the split, then among all items. Gives the headline."""
    rows = [
        {"where": where, "modality": one.modality, "one": one.left, "other": one.right,
         "splits": " / ".join(one.splits), "cosine": round(one.score, 4)}
        for where, pairs in (("held out and training", report.leaked), ("anywhere", report.pairs))
        for one in pairs
    ]  # fmt: skip
    told = ", ".join(
        f"{name} {one.pairs:,} pairs in {one.clusters:,} clusters, {one.leaks:,} across the split"
        for name, one in report.counts.items()
    )
    headline = f"near-duplicates from a cosine of {report.threshold:.2f}: {told}"
    nothing = [{"where": "nothing is nearly the same"}]
    create_table_artifact(rows or nothing, key=key_of("duplicates", space), description=headline)
    return headline


def rounds_artifacts(space: SpaceRef) -> None:
    """A table artifact a round of pseudo-pairs: accepted or refused, and the held-out rsum before and after it.

    That of the last accepted one says how many pseudo-pairs the heads stand on, and where they are named.
    """
    for one in space.rounds:
        verdict = "accepted" if one.accepted else "refused"
        row = {"round": one.number, "verdict": verdict, "rsum before": one.before, "rsum after": one.after}
        kind, of = (
            (f"round-{one.modality}-{one.number}", f" of {one.modality}")
            if one.modality
            else (f"round-{one.number}", "")
        )
        about = f"{space.name}: round {one.number} of pseudo-pairs{of} {verdict}, {one.before:.1f} to {one.after:.1f}"
        if one.pseudo_pairs:
            row["pseudo-pairs"] = one.pseudo_pairs
            about += f"; the heads stand on its {one.pseudo_pairs:,}, named in {space.path}/{PSEUDO_PAIRS_FILE}"
        create_table_artifact([row], key=key_of(kind, space.name), description=about)


def mined_artifact(space: str, mined: Mined) -> str:
    """A markdown artifact: how many pairs were mined, and how often they are right. Gives the headline."""
    headline = f"{space}: {mined.mined:,} pairs mined"
    if mined.precision is not None and mined.interval is not None:
        low, high = mined.interval
        headline += f"; about {mined.precision:.0%} are right (95% interval {low:.0%} to {high:.0%})"
    text = (
        f"{headline}\n\nEstimated from {mined.judged:,} ends of matches of given pairs that were hidden among the "
        "unpaired items, by heads that had not seen them. It holds for items whose partner is there; where there is "
        "none, no match is right.\n"
    )
    create_markdown_artifact(text, key=key_of("mined", space), description=headline)
    return headline


def captions_artifact(done: Captioned) -> str:
    """A table artifact: how many items were captioned, and some of the captions. Gives the headline."""
    made = sum(one.captioned for one in done.reports)
    waiting = sum(done.pending.values())
    headline = f"{done.space}: {made:,} of {waiting:,} items without a text captioned by {done.method}"
    rows = [
        {"item": item, "caption": text, "score": round(score, 3)}
        for one in done.reports
        for item, text, score in one.examples
    ][:_CAPTIONS]
    nothing = [{"item": "nothing was captioned"}]
    create_table_artifact(rows or nothing, key=key_of("captions", done.space), description=headline)
    return headline


def stage_table(done: Ingested) -> list[dict[str, Any]]:
    """Reader, encoder and writer seconds of each encoder, summed over its shards. They overlap, so wall is less.

    `starved` and `blocked` are the shares of the wall in which the encoder waited for the reader or the writer, `ready`
    how many read batches lay before it on average.
    """
    out: list[dict[str, Any]] = []
    for name in dict.fromkeys(stage.encoder for stage in done.stages):
        own = [stage for stage in done.stages if stage.encoder == name]
        encoded, wall = sum(one.encoded for one in own), sum(one.wall_seconds for one in own)
        seconds = {
            what: round(sum(getattr(one, f"{what}_seconds") for one in own), 2) for what in ("read", "encode", "write")
        }
        out.append(
            {
                "encoder": name,
                "encoded": encoded,
                **seconds,
                "wall": round(wall, 2),
                "rate": round(encoded / wall) if wall else 0,
                "starved": round(sum(one.starved_seconds for one in own) / max(wall, 1e-9), 3),
                "blocked": round(sum(one.blocked_seconds for one in own) / max(wall, 1e-9), 3),
                "ready": round(sum(one.ready_batches * one.encoded for one in own) / max(encoded, 1), 1),
            }
        )
    return out


def usage_line(used: Usage) -> str:
    """Peak memory, and where the time went, in a line."""
    spent = [f"{on} {some:,.1f}" for on, some in used.spent_seconds.items() if some >= 0.05 * used.wall_seconds]
    return f"peak memory {used.peak_bytes / 1e6:,.0f} MB; {used.wall_seconds:,.1f} s: {', '.join(spent)}"


def _usage_table(used: Usage) -> list[str]:
    lines = ["", f"{usage_line(used)}.", "", "| at | s | share |", "|---|---|---|"]
    return lines + [
        f"| {on} | {some:,.1f} | {some / used.wall_seconds:.0%} |" for on, some in used.spent_seconds.items()
    ]


def told_of(done: Ingested) -> dict[str, Any]:
    """What is kept of an ingest with the record of its run."""
    counts = done.model_dump(include={"collection", "rows", "written", "removed", "quarantined", "seconds"})
    return counts | {"encoders": stage_table(done)}


def score_artifacts(score: ScoreRef, before: dict[str, Any] | None = None) -> str:
    """A table artifact of the metrics by direction, with the change against `before`, and a markdown one to read first.

    Gives the headline.
    """
    figures = score.metrics
    low, high = figures["rsum_interval"]
    headline = f"{figures['name']}: rsum {figures['rsum']:.1f} ({low:.1f} to {high:.1f})"
    rows = score_rows(figures)
    if before is not None:
        rows = [_with_change(row, before) for row in rows]
        what = "when it was measured last" if before["space"] == figures["space"] else "of the space in force"
        headline += f", {figures['rsum'] - before['rsum']:+.1f} against {before['rsum']:.1f} {what}"
        asked = [sum(way["queries"] for way in one["directions"].values()) for one in (before, figures)]
        if asked[0] != asked[1]:
            headline += f" ({asked[0]:,} queries then, {asked[1]:,} now)"
    create_table_artifact(rows, key=key_of("metrics", figures["name"]), description=headline)
    text = (
        f"# {headline}\n\n"
        f"On split `{figures['split']}`, space `{figures['space']}`; without the hubness correction "
        f"{figures['rsum_raw']:.1f}. Index {figures['ann']['kind']}: recall@10 {figures['ann']['recall']:.3f}.\n\n"
        + "".join(f"- {line}\n" for line in reach(figures))
        + "".join(f"- the encoders {note}\n" for note in figures["seen"])
    )
    create_markdown_artifact(text, key=key_of("headline", figures["name"]), description=headline)
    return headline


def slices_artifact(score: ScoreRef) -> None:
    """A table artifact: every slice and direction, the weakest first, and what is flagged."""
    name, rows = score.metrics["name"], slice_rows(score.metrics)
    flagged = [f"{row['slice']} ({row['direction']})" for row in rows if row["verdict"] == "weak"]
    create_table_artifact(
        rows or [{"slice": "no attribute has a few values"}],
        key=key_of("slices", name),
        description=f"{name}: weak in {', '.join(flagged)}" if flagged else f"{name}: no slice is surely weaker",
    )


def slice_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a slice and direction: how it does, how far from the rest, and what is said of that."""
    rows = []
    for one in figures["slices"]:
        gap = one["gap"] or {"value": None, "interval": (None, None), "p": None}
        told = [None if value is None else round(value, 1) for value in (gap["value"], *gap["interval"])]
        rows.append(
            {
                "slice": f"{one['attribute']}: {one['value']}",
                "direction": one["direction"].replace("_to_", "→"),
                "queries": one["queries"],
                "groups": one["groups"],
                **{name: round(one[name]["value"], 3) for name in ("hit_rate@1", "hit_rate@5", "hit_rate@10")},
                "rsum": round(one["rsum"]["value"], 1) if "rsum" in one else None,
                **dict(zip(("gap", "low", "high"), told, strict=True)),
                "p": None if gap["p"] is None else float(f"{gap['p']:.2g}"),
                "verdict": one["verdict"],
            }
        )
    return rows


def _with_change(row: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """A row of metrics with how much it differs from what it was, beside its value; None where it was not measured."""
    known = before["directions"].get(row["direction"].replace("→", "_to_"), {}).get(row["metric"])
    change = None if known is None else round(row["value"] - known["value"], 4)
    return {"direction": row["direction"], "metric": row["metric"], "value": row["value"], "change": change} | row


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
            for name, value in _flat(decision.figures).items()
        ),
    ]
    create_markdown_artifact(
        "\n".join(lines),
        key=key_of("promotion", decision.name),
        description=f"{decision.name}: {decision.event}; {decision.reason}",
    )


def _flat(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of the gate, those between further modalities after the others."""
    further = figures.get("further", {})
    return {name: value for name, value in figures.items() if name != "further"} | {
        f"{pair.replace('_', ' ')}: {name}": value for pair, of in further.items() for name, value in of.items()
    }


def trained_artifact(names: tuple[str, ...], trained: TrainedRef, decision: Decision | None) -> None:
    """A markdown artifact: the encoder that was trained, what held-out training groups say of it, and the gate."""
    lines = [
        f"# {trained.encoder or 'no encoder is kept'}",
        "",
        f"{trained.why}; {trained.seconds:,.0f} s, {trained.cpu_seconds:,.0f} s of CPU.",
    ]
    if decision is not None:
        lines += ["", f"{decision.name} {decision.space_id}: {decision.event}; {decision.reason}"]
    create_markdown_artifact("\n".join(lines), key=key_of("trained", "+".join(names)), description=trained.why)


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
    took = "how long is not known yet" if plan.seconds is None else f"about {plan.seconds:,.0f} s"
    create_table_artifact(
        rows or [{"collection": "", "what": "nothing has changed", "count": 0}],
        key="plan",
        description=f"What an update would do; {took}",
    )


def update_artifacts(done: Updated) -> None:
    """A markdown artifact of an update: what changed, what it cost, and how the spaces in force stand."""
    lines = [
        f"# Update in {done.seconds:,.1f} s",
        "",
        "| collection | rows | items and pairs written | removed | vectors computed | quarantined |",
        "|---|---|---|---|---|---|",
    ]
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
        lines.append(f"| {space.name} | " + " | ".join([*cells, *scores, "yes" if stale.reasons else "no"]) + " |")
    lines += ["", *(f"- {space.name}: {reason}" for space in done.spaces for reason in space.staleness.reasons)]
    lines += [f"- {one.name}: {one.event} {one.space_id}; {one.reason}" for one in _decisions(done)]
    lines += [f"- {reason}" for reason in done.skipped]
    lines += [] if done.usage is None else _usage_table(done.usage)
    create_markdown_artifact("\n".join(lines), key="update", description=update_line(done))
    for decision in _decisions(done):
        decision_artifact(decision)


def _decisions(done: Updated) -> list[Decision]:
    return [space.decision for space in done.spaces if space.decision is not None]


def update_line(done: Updated) -> str:
    """What an update did, in a line."""
    said = [ingest_line(one) for one in done.ingested]
    said += [f"space {one.name} {one.event}" for one in _decisions(done)]
    return f"{'; '.join(said)}; {done.seconds:,.1f} s"


def ingest_line(done: Ingested) -> str:
    """What an ingest did, in a line."""
    encoded = sum(stage.encoded for stage in done.stages)
    if not (done.written or done.removed or encoded):
        return f"{done.collection}: nothing has changed"
    return (
        f"{done.collection}: {done.written:,} items and pairs written, {done.removed:,} removed, "
        f"{encoded:,} vectors computed"
    )


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


def answers_summary(figures: dict[str, Any]) -> None:
    """A markdown artifact: what a confidence is worth, and how often the surest answers are right."""
    lines = [f"# Answers about {figures['collection']}", "", answers_line(figures), ""]
    if "calibration" in figures:
        told = figures["calibration"]
        told_of = (
            f"Calibration error {told['ece']['value']:.3f}. Answered is what has a confidence of at least "
            f"{told['unsure']:.2f}: {told['answered']:.0%} of the questions."
        )
        lines += [
            told_of,
            "",
            "| of the questions, the surest | right |",
            "|---|---|",
        ]
        lines += [f"| {row['coverage']:.0%} | {row['accuracy']:.1%} |" for row in told["risk_coverage"]]
    create_markdown_artifact(
        "\n".join(lines), key=key_of("answers-confidence", figures["collection"]), description=answers_line(figures)
    )


def answers_line(figures: dict[str, Any]) -> str:
    """How good the answers are, in a line, beside the best baseline."""
    ours, *others = figures["methods"]
    best = max(others, key=lambda row: float(row["accuracy"]))
    low, high = ours["interval"]
    return (
        f"{figures['collection']}: {ours['accuracy']:.1%} of {figures['questions']:,} questions right ({low:.1%} to "
        f"{high:.1%}; {figures['split']}), {best['method']} {best['accuracy']:.1%}, paired gain "
        f"{best['gain_interval'][0]:+.1%} to {best['gain_interval'][1]:+.1%}"
    )


def answer_rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a method: accuracy with its interval, and the gain over it with its interval, in percent."""
    named = [("exact", figures["methods"])] + ([("VQA", figures["vqa"])] if "vqa" in figures else [])
    return [
        {
            "accuracy": name,
            "method": row["method"],
            "right": round(100 * row["accuracy"], 2),
            **dict(zip(("low", "high"), (round(100 * one, 2) for one in row["interval"]), strict=True)),
            **dict(
                zip(
                    ("gain", "gain low", "gain high"),
                    (round(100 * one, 2) for one in (row["gain"], *row["gain_interval"]))
                    if "gain" in row
                    else [None] * 3,
                    strict=True,
                )
            ),
        }
        for name, rows in named
        for row in rows
    ]


def key_of(kind: str, name: str) -> str:
    """The key of an artifact about something with a name."""
    return f"{kind}-{slug_of(name)}"
