"""What the commands print: tables a person reads at a glance."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.console import console_for
from flows.summaries import answer_rows, answers_line, score_rows, slice_rows, stage_table, usage_line
from flows.watching import ended
from tasks.reports.words import SEVERAL, SHOWN, reach

if TYPE_CHECKING:
    from config.settings import Settings
    from flows.doctor import Check
    from tasks.answer import Answered
    from tasks.refs import Decision, Ingested, Updated, UpdatePlan, Upkeep

_MARKS = {"good": "[green]good[/]", "note": "[yellow]note[/]", "wrong": "[red]wrong[/]", "weak": "[red]weak[/]"}
_POSSIBLE = 5  # answers shown
_WAITS = ("starved", "blocked")  # shares of the wall in which the encoder waited for the reader, the writer
_WEAKEST = 5  # slices shown in any case


def show_metrics(metrics: dict[str, Any]) -> None:
    """The table of results: every direction with intervals, chance and the shuffled control."""
    console = console_for()
    low, high = metrics["rsum_interval"]
    drawn = " (drawn here, by group and seed)" if metrics["split_drawn"] else ""
    console.print(
        f"\n[bold]{metrics['name']}[/]: rsum [bold]{metrics['rsum']:.1f}[/] "
        f"({metrics['confidence']:.0%} interval {low:.1f} to {high:.1f}), "
        f"{metrics['rsum_raw']:.1f} without the hubness correction",
        highlight=False,
    )
    console.print(
        f"split {metrics['split']}{drawn}; {metrics['method']} on {metrics['training_pairs']:,} training pairs, "
        f"width {metrics['dim']}, space {metrics['space']}",
        highlight=False,
    )
    table = Table()
    for name in ("direction", "metric", "value", "interval", "uncorrected", "chance", "shuffled"):
        table.add_column(name, justify="left" if name in ("direction", "metric") else "right")
    last = ""
    for row in score_rows(metrics):
        report = metrics["directions"][row["direction"].replace("→", "_to_")]
        if row["metric"] not in SHOWN or (row["metric"] in SEVERAL and report["relevant"] == 1):
            continue
        of = "" if report["relevant"] == 1 else f", {report['relevant']:.1f} right"
        label = f"{row['direction']} ({report['queries']:,} in {report['gallery']:,}{of})"
        if last not in ("", label):
            table.add_section()
        interval = "" if row["low"] is None else f"{row['low']:.3f} – {row['high']:.3f}"
        number = "{:.1f}" if row["metric"] == "median_rank" else "{:.3f}"
        table.add_row(
            label if label != last else "",
            row["metric"],
            number.format(row["value"]),
            interval,
            number.format(row["raw"]),
            "" if row["chance"] is None else f"{row['chance']:.4f}",
            "" if row["shuffled"] is None else f"{row['shuffled']:.4f}",
        )
        last = label
    console.print(table)
    for line in reach(metrics):
        console.print(line, highlight=False)
    _show_slices(console, metrics)
    for name, report in metrics["directions"].items():
        console.print(f"{name.replace('_to_', '→')} {_meaning(report['calibration'])}", highlight=False)
    calm = all(report["control"]["at_chance"] for report in metrics["directions"].values())
    console.print(
        "shuffled control: "
        + (
            "inside the 99% interval of chance"
            if calm
            else "[red]OUTSIDE the 99% interval of chance: do not trust this table[/]"
        )
    )
    skews = ", ".join(
        f"{name.replace('_to_', '→')} {skew['raw_skew_N10']:.2f} → {skew['corrected_skew_N10']:.2f}"
        for name, skew in ((name, report["hubness"]) for name, report in metrics["directions"].items())
    )
    console.print(
        f"hubness (skew of N10, before → after correction): {skews}; modality gap {metrics['modality_gap']:.2f}",
        highlight=False,
    )
    ann = metrics["ann"]
    console.print(
        f"index {ann['kind']} over {ann['rows']:,} items: recall@10 {ann['recall']:.3f} (target {ann['target']:.2f})",
        highlight=False,
    )
    bad = {code: n for counts in metrics["quarantined"].values() for code, n in counts.items()}
    console.print(
        f"quarantined: {sum(bad.values())}" + (f" ({', '.join(f'{c} {n}' for c, n in bad.items())})" if bad else ""),
        highlight=False,
    )
    leaks = metrics["leaks"]
    if leaks["media"] or leaks["texts"]:
        console.print(
            f"[yellow]on both sides of a split: {leaks['media']} media, {leaks['texts']} texts[/]", highlight=False
        )
    for note in metrics["seen"]:
        console.print(f"note: an encoder was {note}", highlight=False)


def _show_slices(console: Console, metrics: dict[str, Any]) -> None:
    """The slices that are flagged, or else the weakest few."""
    rows = slice_rows(metrics)
    judged = [row for row in rows if row["verdict"] != "too few"]
    if not judged:
        return
    shown = [row for place, row in enumerate(judged) if place < _WEAKEST or row["verdict"] != "even"]
    table = Table()
    for name in ("slice", "direction", "groups", "hit_rate@1", "hit_rate@10", "rsum", "gap", "interval", "verdict"):
        table.add_column(name, justify="left" if name in ("slice", "direction", "verdict") else "right")
    for row in shown:
        table.add_row(
            row["slice"],
            row["direction"],
            f"{row['groups']:,}",
            f"{row['hit_rate@1']:.3f}",
            f"{row['hit_rate@10']:.3f}",
            "" if row["rsum"] is None else f"{row['rsum']:.1f}",
            f"{row['gap']:+.1f}",
            f"{row['low']:+.1f} – {row['high']:+.1f}",
            _MARKS.get(row["verdict"], row["verdict"]),
        )
    console.print(table)
    few = len(rows) - len(judged)
    console.print(
        f"slices: {len(shown):,} of {len(judged):,} judged, {few:,} have too few groups; gap to the rest in points of "
        "the mean of hit_rate@1/5/10; all with --json",
        highlight=False,
    )


def _meaning(told: dict[str, Any]) -> str:
    """What the scores of a direction mean, in a line."""
    if told["fitted_on"] is None:
        return f"scores are not calibrated: {told['reason']}"
    before, after = (told["first"][stage]["ece"] for stage in ("before", "after"))
    low, high = after["interval"]
    open_ = told["ambiguity"]
    rates = "; ".join(
        f"{name} ones right in {open_[name]['hit_rate@1']['value']:.1%}"
        for name in ("ambiguous", "clear")
        if open_[name]["queries"]
    )
    return (
        f"among all {told['gallery']:,} items: a first hit is right in {told['first']['right']:.1%}, its probability "
        f"is off by {after['value']:.1%} ({low:.1%} to {high:.1%}; the cosine by {before['value']:.1%}); "
        f"{open_['share']['value']:.0%} of the queries are ambiguous ({rates})"
    )


def show_next(settings: Settings, query: str = "a dog in the snow") -> None:
    """Where everything lies and what to type next."""
    console = console_for()
    name = "modalign" if shutil.which("modalign") else os.path.relpath(sys.argv[0])
    console.print(f"\nworkspace: {settings.workspace}", highlight=False, soft_wrap=True)
    console.print(f"space, card and metrics.json: {settings.workspace / 'spaces'}", highlight=False, soft_wrap=True)
    console.print(f"report, for a browser: {settings.workspace / 'reports'}", highlight=False, soft_wrap=True)
    for words in (f'search "{query}" --to image -k 5', "status", "run SOURCE  # a folder of your own", "--help"):
        console.print(f"next: {name} {words}", highlight=False, soft_wrap=True)


def show_ingest(done: Ingested) -> None:
    """Counts of an ingest and where the time went."""
    console = console_for()
    splits = ", ".join(f"{name} {count:,}" for name, count in done.groups.splits.items())
    console.print(
        f"{done.collection}: {done.rows:,} rows, {done.groups.groups:,} groups; items by split: {splits}; "
        f"quarantined {done.quarantined}",
        highlight=False,
    )
    rows = stage_table(done)
    if not rows:
        console.print("nothing was pending: no shard was encoded")
        return
    table = Table()
    for name in ("encoder", "encoded", "read s", "encode s", "write s", "wall s", "items/s", *_WAITS):
        table.add_column(name, justify="left" if name == "encoder" else "right")
    for row in rows:
        shown = row | {name: f"{row[name]:.0%}" for name in _WAITS}
        del shown["ready"]
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in shown.values()))
    console.print(table)
    if done.usage is not None:
        console.print(usage_line(done.usage), highlight=False)


def show_status(facts: dict[str, Any]) -> None:
    """Collections, embeddings and spaces of a workspace."""
    console = console_for()
    place = f", tables at {facts['tables']}" if "://" in facts["tables"] else ""
    size = f"{facts['bytes'] / 1e6:,.0f} MB"
    console.print(f"workspace {facts['workspace']}{place} ({size})", highlight=False, soft_wrap=True)
    for title, key in (("collections", "collections"), ("embeddings", "embeddings"), ("spaces", "spaces")):
        rows: Sequence[dict[str, Any]] = facts[key]
        if not rows:
            console.print(f"no {title} yet: modalign demo, or modalign run SOURCE")
            continue
        table = Table(title=title, title_justify="left")
        for name in rows[0]:
            table.add_column(name, overflow="fold")
        for row in rows:
            table.add_row(*(_cell(value) for value in row.values()))
        console.print(table)
    for one in facts["runs"]:
        console.print(ended(one), highlight=False)
    for run in facts["at work"]:
        console.print(f"at work: {run['what']}; modalign status --watch", highlight=False)


def show_rows(rows: Sequence[dict[str, Any]], none: str) -> None:
    """Rows as a table; `none` where there is none. Columns that are empty throughout are left out."""
    console = console_for()
    if not rows:
        console.print(none, highlight=False)
        return
    names = [name for name in rows[0] if any(row[name] not in ("", None) for row in rows)]
    table = Table()
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("" if row[name] is None else _cell(row[name]) for name in names))
    console.print(table)


def show_spaces(rows: Sequence[dict[str, Any]]) -> None:
    """Spaces, a few lines each: state and score, what made it, why it is in force or not, why stale."""
    console = console_for()
    if not rows:
        console.print("no space yet: modalign demo, or modalign run SOURCE", highlight=False)
    marks = {"in force": "[green]in force[/]", "refused": "[red]refused[/]", "former": "former"}
    for row in rows:
        score = "not assessed" if row["rsum"] is None else f"rsum {row['rsum']:.1f}"
        pseudo = f" and {row['pseudo-pairs']:,} pseudo-pairs" if row["pseudo-pairs"] else ""
        lines = [
            f"[bold]{row['name']}[/] {row['space']}  {marks[row['state']]} since {row['since']}",
            f"  {score}, recall@10 {row['recall@10']:.3f}",
            f"  {row['method']} on {row['pairs']:,} pairs{pseudo} of {row['collections']}; {row['encoders']}",
            *([f"  bound: {row['bound']}"] if row["bound"] else []),
            f"  why: {row['why']}",
        ]
        if row["state"] == "in force":
            lines.append(f"  stale because: {row['stale because'] or 'it is not'}")
        for line in lines:
            console.print(line, highlight=False, soft_wrap=True)


def show_plan(plan: UpdatePlan) -> None:
    """What an update would do: items, vectors, spaces, time."""
    console = console_for()
    for one in plan.collections:
        console.print(f"[bold]{one.collection}[/] ({one.source})", highlight=False, soft_wrap=True)
        kinds = ("added", "changed", "edited", "moved", "removed")
        rows = [{"items": kind} | getattr(one, kind) for kind in kinds if getattr(one, kind)]
        names = dict.fromkeys(name for row in rows for name in row)
        show_rows([{name: row.get(name, 0) for name in names} for row in rows], "  no item comes, changes or goes")
        console.print(
            f"  {one.rows_waiting:,} rows to look at, {one.files_read:,} files read; pairs: {one.pairs_added:,} come, "
            f"{one.pairs_removed:,} go; {one.faults:,} of them cannot be read",
            highlight=False,
        )
        if one.answers_added or one.answers_removed:
            console.print(f"  answers: {one.answers_added:,} come, {one.answers_removed:,} go", highlight=False)
        for example in one.examples:
            console.print(f"    {example}", highlight=False, markup=False)
        for work in one.work:
            time = "" if work.seconds is None or not work.vectors else f", about {work.seconds:,.1f} s"
            console.print(f"  {work.encoder} ({work.modality}): {work.vectors:,} vectors{time}", highlight=False)
    for space in plan.spaces:
        said = "; ".join(space.reasons) or "nothing"
        touched = "brought along" if space.touched else "as it is"
        console.print(f"space {space.name} ({space.space_id}): {touched}; stale because: {said}", highlight=False)
    for reason in plan.skipped:
        console.print(f"[yellow]{reason}[/]", highlight=False)
    seconds = plan.seconds
    console.print(
        "about how long: not known before the first update" if seconds is None else f"about {seconds:,.0f} s in all",
        highlight=False,
    )


def show_update(done: Updated) -> None:
    """What an update did."""
    console = console_for()
    for one in done.ingested:
        console.print(f"items and pairs written {one.written:,}, removed {one.removed:,}", highlight=False)
        show_ingest(one)
    for space in done.spaces:
        moved, stale = space.projected, space.staleness
        index = space.aligned.index
        console.print(
            f"space {space.name} ({space.aligned.space.space_id}): {moved.projected:,} projected, "
            f"{moved.edited:,} edited, {moved.removed:,} removed; index {index.index.kind}, "
            f"recall@10 {index.index.recall:.3f}" + ("" if stale.rsum is None else f"; rsum {stale.rsum:.1f}"),
            highlight=False,
        )
        console.print(f"  due for a refit: {'; '.join(stale.reasons) or 'no'}", highlight=False)
        if space.decision is not None:
            show_decision(space.decision)
    for reason in done.skipped:
        console.print(f"[yellow]{reason}[/]", highlight=False)
    if done.upkeep is not None:
        show_upkeep(done.upkeep)
    used = f"{done.seconds:,.1f} s" if done.usage is None else usage_line(done.usage)
    console.print(used, highlight=False)


def show_decision(decision: Decision) -> None:
    """Whether a space was put in force, and why."""
    sign = {"promoted": "[green]promoted[/]", "refused": "[red]refused[/]", "kept": "kept"}[decision.event]
    console_for().print(f"{decision.name} {decision.space_id}: {sign}; {decision.reason}", highlight=False)


def show_upkeep(done: Upkeep) -> None:
    """What upkeep freed, or would free."""
    console = console_for()
    freed = ", ".join(f"{kind} {size / 1e6:,.1f} MB" for kind, size in done.bytes.items())
    console.print(f"{'would free' if done.dry_run else 'freed'}: {freed}", highlight=False)
    for name in done.dropped:
        console.print(f"  {'would drop' if done.dry_run else 'dropped'} {name}", highlight=False)
    for name in done.compacted:
        console.print(f"  {'would compact' if done.dry_run else 'compacted'} {name}", highlight=False)


def show_difference(found: dict[str, Any]) -> None:
    """How two spaces differ."""
    console = console_for()
    show_rows(
        [{"": key, found["from"]: str(old), found["to"]: str(new)} for key, (old, new) in found["differs"].items()],
        "they were made in the same way",
    )
    pairs = {"": found["compared"]} | {f"{name.replace('_', ' ')}: ": told for name, told in found["further"].items()}
    for name, told in pairs.items():
        console.print(
            f"{name}rsum {told['old']:.1f} → {told['new']:.1f} ({told['difference']:+.1f}, "
            f"interval {told['difference_low']:+.1f} to {told['difference_high']:+.1f}) "
            f"on {told['queries']:,} queries of {told['groups']:,} held-out groups of split {told['split']}; "
            f"the first hit is the same for {told['agreement']:.1%}",
            highlight=False,
        )


def show_checks(checks: Sequence[Check]) -> None:
    """What doctor found, one line a check."""
    table = Table(show_header=False, box=None)
    for check in checks:
        table.add_row(_MARKS[check.level], check.name, check.text)
    console_for().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def show_answered(found: Answered) -> None:
    """An answer, how sure it is, the others that were possible, and what it rests on."""
    console = console_for()
    sure = "" if found.confidence is None else f" ({found.confidence:.0%} sure)"
    told = found.answer if found.answer is not None else "I don't know"
    console.print(f"[bold]{escape(told)}[/]{sure}", highlight=False)
    others = " · ".join(f"{one.answer} {one.share:.0%}" for one in found.alternatives[:_POSSIBLE])
    console.print(f"from {found.how}; possible: {others or 'nothing'}", highlight=False, markup=False)
    for one in found.evidence:
        near = f"medium {one.media_similarity:.2f}"
        if one.question_similarity is not None:
            near = f"question {one.question_similarity:.2f}, {near}"
        said = f"{one.question} → {one.answer}" if one.question else one.answer
        console.print(f"  {said}  [{near}] {one.path}", highlight=False, markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"[yellow]{escape(note)}[/]", highlight=False)


def show_answers(figures: dict[str, Any]) -> None:
    """How well questions are answered: every method, the gain over it, question types, what a confidence is worth."""
    console = console_for()
    console.print(f"\n{answers_line(figures)}", highlight=False)
    show_rows(answer_rows(figures), "nothing was measured")
    names = [row["method"] for row in figures["methods"]]
    show_rows(
        [
            {"type": row["type"], "questions": row["questions"]} | {name: f"{row[name]:.1%}" for name in names}
            for row in figures["types"]
        ],
        "",
    )
    if "calibration" in figures:
        told = figures["calibration"]
        console.print(
            f"calibration error {told['ece']['value']:.3f}; right by coverage: "
            + ", ".join(f"{row['coverage']:.0%} {row['accuracy']:.1%}" for row in told["risk_coverage"])
            + f"; answered {told['answered']:.0%}, the others: I don't know",
            highlight=False,
        )
    for line in figures["seen"]:
        console.print(f"[yellow]{escape(line)}[/]", highlight=False)
