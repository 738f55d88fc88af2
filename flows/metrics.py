"""What runs tell Prometheus: the one place that knows these metrics, as text that it reads. Needs no package for it.

`modalign serve` adds them to its own; the end of a run writes them to a file for node_exporter's textfile collector.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from config.settings import Settings
from storage.errors import StorageError
from storage.folders import whole_file
from storage.runs import runs
from storage.told import Told, last_told, told_now

_Sample = tuple[dict[str, str], float]

_HELP = {
    "modalign_run_end_timestamp_seconds": "When the last run of this kind ended.",
    "modalign_run_completed": "1 if it ended well.",
    "modalign_run_seconds": "Its seconds, by what it was at; they add up to its wall time.",
    "modalign_run_peak_bytes": "The most memory that its process held.",
    "modalign_encoded": "Contents that it encoded.",
    "modalign_encoded_per_second": "Contents a second while it encoded.",
    "modalign_encoder_waits": "Share of that time in which the encoder waited, for the reader or the writer.",
    "modalign_queue_batches": "Read batches that lay before the encoder, on average.",
    "modalign_quarantined": "Things of a collection that could not be read, at the end of its last run.",
    "modalign_at_work_done": "Finished units of the stage that a run is at.",
    "modalign_at_work_pending": "Units that are left of it.",
    "modalign_at_work_resident_bytes": "Memory that a run at work holds.",
}


def metrics_text(root: Path) -> str:
    """The metrics of the last run of each kind, and of the runs at work, in Prometheus' text format."""
    found: dict[str, list[_Sample]] = {name: [] for name in _HELP}
    newest = {_kind(told): told for told in last_told(root)}
    collections = {one["collection"]: one for told in last_told(root) for one in told.get("ingested", ())}
    for kind, told in newest.items():
        for name, sample in _of_run(kind, told):
            found[name].append(sample)
    found["modalign_quarantined"] += [
        ({"collection": name}, float(one["quarantined"])) for name, one in collections.items()
    ]
    for run in runs(root):
        now = told_now(root, run.run_id) if run.alive else None
        if now is not None:
            labels = {"run": _kind(now), "stage": now["stage"]}
            found["modalign_at_work_done"].append((labels, now["done"]))
            found["modalign_at_work_pending"].append((labels, max(now["total"] - now["done"], 0)))
            found["modalign_at_work_resident_bytes"].append(({"run": _kind(now)}, now["resident_bytes"]))
    return "".join(_family(name, samples) for name, samples in found.items() if samples)


def write_metrics(settings: Settings) -> None:
    """Write them to the file that the settings name, else into the workspace; a disk that refuses costs no run."""
    path = settings.metrics_file or settings.workspace / "metrics.prom"
    with suppress(OSError, StorageError), whole_file(path) as fresh:
        fresh.write_text(metrics_text(settings.workspace), encoding="utf-8")


def _kind(told: Told) -> str:
    return str(told["what"]).partition(" ")[0]


def _of_run(kind: str, told: Told) -> Iterator[tuple[str, _Sample]]:
    run = {"run": kind}
    yield "modalign_run_end_timestamp_seconds", (run, told["until"])
    yield "modalign_run_completed", (run, float(told["outcome"] == "completed"))
    yield "modalign_run_peak_bytes", (run, told["peak_bytes"])
    for on, some in told["spent_seconds"].items():
        yield "modalign_run_seconds", (run | {"at": on}, round(some, 3))
    for done in told.get("ingested", ()):
        for one in done["encoders"]:
            labels = run | {"collection": done["collection"], "encoder": one["encoder"]}
            yield "modalign_encoded", (labels, one["encoded"])
            yield "modalign_encoded_per_second", (labels, one["rate"])
            yield "modalign_queue_batches", (labels, one["ready"])
            for waits, on in (("starved", "reader"), ("blocked", "writer")):
                yield "modalign_encoder_waits", (labels | {"for": on}, one[waits])


def _family(name: str, samples: Iterable[_Sample]) -> str:
    lines = [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"]
    lines += [f"{name}{{{_labels(labels)}}} {value!r}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    r"""Labels as Prometheus writes them.

    >>> print(_labels({"run": 'a "b"'}))
    run="a \"b\""
    """
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
