"""A space in words: what it can do, and what a reader should know before he believes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tasks.reports.contents import Encoder
from tasks.reports.licences import use_of

Level = Literal["good", "note", "warn"]
_NOUNS = {
    "text": ("text", "texts"),
    "image": ("picture", "pictures"),
    "audio": ("sound", "sounds"),
    "video": ("video", "videos"),
}
RATES = ("hit_rate@1", "hit_rate@5", "hit_rate@10")
SHOWN = (*RATES, "MRR", "nDCG@10", "mAP@R", "R-precision", "median_rank")
"""The metrics that a person is shown, in this order."""
SEVERAL = ("mAP@R", "R-precision")
"""Of these, what is hit_rate@1 where each query has one right answer."""
_MANY = 0.02  # share of quarantined things that is worth a warning


class Remark(NamedTuple):
    """What a reader should know, and how grave it is."""

    level: Level
    text: str


def noun(modality: str, *, many: bool = True) -> str:
    """What people call items of a modality.

    >>> noun("image"), noun("scent"), noun("scent", many=False)
    ('pictures', 'scent items', 'scent item')
    """
    one, several = _NOUNS.get(modality, (f"{modality} item", f"{modality} items"))
    return several if many else one


def ends(direction: str) -> tuple[str, str]:
    """The modalities of query and gallery of a direction by its name.

    >>> ends("text_to_image")
    ('text', 'image')
    """
    query, _, gallery = direction.partition("_to_")
    return query, gallery


def arrow(direction: str) -> str:
    """A direction for people.

    >>> arrow("text_to_image")
    'text → image'
    """
    return " → ".join(ends(direction))


def reach(figures: Mapping[str, Any]) -> list[str]:
    """What was measured between modalities that were not fitted together, and what could not be, a line each."""
    lines = [
        f"{name.replace('_to_', '→')} is bound through {', '.join(one['through'])}"
        for name, one in figures["directions"].items()
        if one["through"]
    ]
    lines += [
        f"{name.replace('_to_', '→')} is measured on split {one['split']}"
        for name, one in figures["directions"].items()
        if one["split"] != figures["split"]
    ]
    lines += [f"not measured: no held-out pair joins {one} and {other}" for one, other in figures["unlinked"]]
    return lines + [f"{modality} is left out: {why}" for modality, why in figures["left_out"].items()]


def remarks(metrics: Mapping[str, Any], encoders: Sequence[Encoder], near: int | None = None) -> list[Remark]:
    """What a reader should know, the gravest first. `near` held-out media have a near-duplicate in training."""
    found = [
        *_trust(metrics),
        *_leaks(metrics, near),
        *_weak(metrics),
        *_index(metrics),
        *_licences(encoders),
        *(Remark("note", f"An encoder was {seen}.") for seen in metrics["seen"]),
        *_data(metrics),
        *(Remark("note", f"{line[0].upper()}{line[1:]}.") for line in reach(metrics)),
    ]
    order = ("warn", "note", "good")
    return sorted(found, key=lambda one: order.index(one.level))


def _trust(metrics: Mapping[str, Any]) -> list[Remark]:
    off = [arrow(name) for name, one in metrics["directions"].items() if not one["control"]["at_chance"]]
    if off:
        return [Remark("warn", f"The shuffled control lies outside chance for {', '.join(off)}: do not trust this.")]
    return [Remark("good", "Heads fitted on shuffled pairs fall to chance, as they must.")]


def _leaks(metrics: Mapping[str, Any], near: int | None) -> list[Remark]:
    leaks, out = metrics["leaks"], []
    if leaks["media"]:
        out.append(Remark("warn", f"{leaks['media']:,} media stand on both sides of a split."))
    if near:
        who = "1 held-out medium has" if near == 1 else f"{near:,} held-out media have"
        out.append(Remark("warn", f"{who} a near-duplicate in training: figures may flatter."))
    if leaks["texts"]:
        out.append(Remark("note", f"{leaks['texts']:,} texts stand on both sides of a split."))
    return out or [Remark("good", "Nothing stands on both sides of a split.")]


def _weak(metrics: Mapping[str, Any]) -> list[Remark]:
    weak = [one for one in metrics["slices"] if one["verdict"] == "weak"]
    if not weak:
        return []
    named = "; ".join(dict.fromkeys(f"{one['attribute']}: {one['value']}" for one in weak[:5]))
    return [Remark("warn", f"Surely weaker than the rest: {named}.")]


def _index(metrics: Mapping[str, Any]) -> list[Remark]:
    ann = metrics["ann"]
    if ann["recall"] < ann["target"]:
        return [Remark("warn", f"The index finds {ann['recall']:.1%} of the true neighbours, below its target.")]
    return []


def _licences(encoders: Sequence[Encoder]) -> list[Remark]:
    out = []
    for one in encoders:
        use = use_of(one.licence)
        if use == "non-commercial":
            out.append(Remark("warn", f"{one.name} ({one.licence}) may not be used commercially, nor may this space."))
        elif use in ("unknown", "restricted"):
            text = f"{one.name}: licence {one.licence or 'not stated'}; read it before you ship this space."
            out.append(Remark("warn", text))
    return out or [Remark("good", "The licences of all encoders allow commercial use.")]


def _data(metrics: Mapping[str, Any]) -> list[Remark]:
    count = sum(n for codes in metrics["quarantined"].values() for n in codes.values())
    if not count:
        return []
    level: Level = "warn" if count > _MANY * metrics["ann"]["rows"] else "note"
    return [Remark(level, f"{count:,} things could not be read and stand in quarantine.")]
