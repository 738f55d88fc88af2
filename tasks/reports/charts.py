"""Which plots a report has, from its figures: for the page, and as pictures for elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.reports import plots
from tasks.reports.contents import Place
from tasks.reports.markup import fine, percent, pointer
from tasks.reports.plots import Point, Series, Span, Spot
from tasks.reports.words import arrow, ends, noun

SLICES = 14
"""Slices that are drawn at most, the weakest first."""


def hit_rates(direction: str, report: Mapping[str, Any]) -> str:
    """hit_rate@k by k of a direction: with the correction, without, and by chance; "" where it was not measured."""
    rows = report.get("curve", ())
    if not rows:
        return ""
    at = ("directions", direction, "curve")

    def drawn(key: str, name: str, *, dashed: bool = False, reference: bool = False) -> Series:
        shown = [
            Point(row["k"], row[key], f"among the first {row['k']}: {percent(row[key])} ({name})",
                  metric=pointer(*at, place, key))
            for place, row in enumerate(rows)
        ]  # fmt: skip
        return Series(name, shown, dashed=dashed, reference=reference)

    last = rows[-1]
    about = f"{percent(rows[0]['hit_rate'])} at once, {percent(last['hit_rate'])} among the first {last['k']}"
    return plots.curves(
        f"Hit rate by length of the list, {_plain(direction)}",
        about,
        [
            drawn("hit_rate", "corrected for hubs"),
            drawn("raw", "by cosine", dashed=True),
            drawn("chance", "chance", reference=True),
        ],
        x_label="k, the length of the list",
        y_label="queries with a right answer among the first k",
        log_x=True,
        y_range=(0, 1),
    )


def reliability(direction: str, report: Mapping[str, Any]) -> str:
    """How often first hits are right by the probability that they are given; "" where scores are not calibrated."""
    told = report["calibration"]
    if told["fitted_on"] is None:
        return ""
    at = ("directions", direction, "calibration", "first", "reliability")
    rows = told["first"]["reliability"]
    shown = [
        Point(row["probability"], row["right"],
              f"{row['hits']:,} first hits at {percent(row['probability'])} are right in {percent(row['right'])}",
              metric=pointer(*at, place, "right"))
        for place, row in enumerate(rows)
    ]  # fmt: skip
    top = min(1.0, max(0.1, *(max(one.x, one.y) for one in shown)) * 1.08)
    even = Series("perfectly honest", [Point(0, 0, ""), Point(top, top, "")], reference=True)
    return plots.curves(
        f"Reliability of first hits, {_plain(direction)}",
        "the share that is right against the probability that was told, in bins of equal size",
        [Series("first hits", shown), even],
        x_label="probability that is told",
        y_label="share that is right",
        x_text=plots.percent,
        y_range=(0, top),
    )


def hubness(direction: str, report: Mapping[str, Any]) -> str:
    """In how many top ten lists items stand, by cosine and with the correction; "" where it was not measured."""
    rows = report["hubness"].get("N10", ())
    if not rows:
        return ""
    at = ("directions", direction, "hubness", "N10")
    names = [
        str(row["from"])
        if row["to"] == row["from"]
        else f"{row['from']}+"
        if row["to"] is None
        else f"{row['from']}-{row['to']}"
        for row in rows
    ]
    series = [
        Series(
            name,
            [
                Point(place, row["shares"][which], f"{percent(row['shares'][which])} of the items in {lists} lists",
                      metric=pointer(*at, place, "shares", which))
                for place, (row, lists) in enumerate(zip(rows, names, strict=True))
            ],
        )
        for which, name in ((1, "corrected for hubs"), (0, "by cosine"))
    ]  # fmt: skip
    skew = report["hubness"]
    return plots.bars(
        f"How often items are found, {_plain(direction)}",
        f"skew {skew['raw_skew_N10']:.2f} by cosine, {skew['corrected_skew_N10']:.2f} with the correction",
        names,
        series,
        x_label="top ten lists that an item stands in",
        y_label=f"share of the {noun(ends(direction)[1])}",
    )


def cosines(figures: Mapping[str, Any]) -> str:
    """Cosines of known and of random pairs; "" where they were not measured."""
    found = figures.get("cosines")
    if not found:
        return ""
    return plots.steps(
        "Cosines of held-out pairs",
        f"known pairs {found['paired_mean']:.2f} on average, random ones {found['random_mean']:.2f}",
        found["edges"],
        [("known pairs", found["paired"]), ("random pairs", found["random"])],
        x_label="cosine in the joint space",
        y_label="share of the pairs",
    )


def embedding_map(places: Sequence[Place]) -> str:
    """The map of some items; "" where there are none."""
    if not places:
        return ""
    kinds = sorted({one.modality for one in places})
    spots = [Spot(one.x, one.y, kinds.index(one.modality), one.words) for one in places]
    names = [noun(one) for one in kinds]
    return plots.scatter("Map of the space", f"{len(spots):,} held-out items: {', '.join(names)}", names, spots)


def learning(curve: Mapping[str, Any] | None) -> str:
    """The learning curve; "" where there is none."""
    if not curve:
        return ""
    shown = [
        Point(row["pairs"], row["rsum"], f"{row['pairs']:,.0f} pairs: rsum {row['rsum']:.1f}",
              low=row["interval"][0], high=row["interval"][1], metric=pointer("curve", "points", place, "rsum"))
        for place, row in enumerate(curve["points"])
    ]  # fmt: skip
    return plots.curves(
        "Learning curve",
        f"rsum of held-out training groups by the number of pairs, by {curve['method']}",
        [Series(f"{curve['method']}, with its {curve['confidence']:.0%} interval", shown)],
        x_label="known pairs that the heads are fitted on",
        y_label="rsum",
        log_x=True,
        x_text="{:,.0f}".format,
        y_text="{:g}".format,
    )


def neighbours(ann: Mapping[str, Any] | None) -> str:
    """Recall by time of the index's query parameters; "" where fewer than two were measured."""
    rows = ann["points"] if ann else ()
    if ann is None or len(rows) < 2:
        return ""
    shown = [
        Point(one["milliseconds"], one["recall"],
              f"recall@10 {fine(one['recall'])} in {one['milliseconds']:.2f} ms: {setting(one)}",
              metric=pointer("ann", "points", place, "recall"))
        for place, one in sorted(enumerate(rows), key=lambda item: item[1]["milliseconds"])
    ]  # fmt: skip
    target = [Point(shown[0].x, ann["target"], ""), Point(shown[-1].x, ann["target"], "")]
    return plots.curves(
        "Recall by time of a query",
        "each point is one setting of the index",
        [Series(ann["kind"], shown), Series("target", target, reference=True)],
        x_label="milliseconds a query",
        y_label="recall@10",
        log_x=True,
        y_text=plots.percent,
    )


def slices(rows: Sequence[Mapping[str, Any]]) -> str:
    """The gaps of judged slices to the rest, the weakest first; "" where none is judged."""
    judged = [(place, one) for place, one in enumerate(rows) if one["gap"] is not None][:SLICES]
    if not judged:
        return ""
    shown = [
        Span(
            f"{one['attribute']}: {one['value']}",
            one["gap"]["value"],
            one["gap"]["interval"][0],
            one["gap"]["interval"][1],
            one["verdict"] == "weak",
            f"{one['attribute']}: {one['value']} ({_plain(one['direction'])}), {one['gap']['value']:+.1f} points",
            pointer("slices", place, "gap", "value"),
        )
        for place, one in judged
    ]
    return plots.spans(
        "Gaps of slices to all other queries",
        "in points of the mean of the hit rates at 1, 5 and 10, with intervals",
        shown,
        x_label="gap to the rest, in points",
    )


def setting(row: Mapping[str, Any]) -> str:
    """The query parameters behind a point of recall by time."""
    return ", ".join(f"{name} {value:g}" for name, value in row.items() if name not in ("recall", "milliseconds"))


def _plain(direction: str) -> str:
    """In letters that every font has."""
    return arrow(direction).replace("→", "to") if "_to_" in direction else direction
