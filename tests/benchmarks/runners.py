"""Shards by one process, by worker processes of Dask and Ray, undisturbed and with one killed: equal tables, the speed.

Photos, captions and sounds in one collection. On a machine whose CPUs one encoder keeps busy several workers cannot be
faster; what is told is what it was here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from storage.tables import Store
from storage.workspace import Workspace
from tests.benchmarks.flickr8k import DATA
from tests.benchmarks.killing import Server, environment
from tests.benchmarks.results import record, table
from tests.flows.law import built, differences, repeated

PHOTOS, SOUNDS = (int(size) for size in os.environ.get("MODALIGN_BENCH_RUNNERS", "1000 560").split())
ENCODERS = {"image": "builtin:efficientnet-lite2", "text": "builtin:minilm", "audio": "builtin:logmel"}
SHARD = 128


@dataclass(frozen=True)
class Case:
    """A way to run: the settings of it, whether a worker is killed, and whether its Dask cluster is there before."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    kill: bool = False
    cluster: bool = False


def cases() -> Iterator[Case]:
    """One process, then each kind of workers, undisturbed and hurt."""
    yield Case("thread")
    for runner, workers in (("dask", 2), ("dask", 4), ("ray", 2)):
        settings = {"MODALIGN_RUNNER": runner, "MODALIGN_WORKERS": str(workers)}
        for kill in (False, True):
            yield Case(f"{runner}, {workers} workers{', one killed' if kill else ''}", settings, kill=kill)
    yield Case("dask, 2 workers of a cluster, one killed", {"MODALIGN_RUNNER": "dask"}, kill=True, cluster=True)


@dataclass
class Watch:
    """The growth of the tables of vectors: (seconds, rows) at each change."""

    start: float
    seen: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def look(self, store: Store) -> int:
        """Note what has changed; all vectors that are there."""
        for name in [name for name in store.names() if name.startswith("embeddings_")]:
            rows, known = store.count(name), self.seen.setdefault(name, [])
            if rows and (not known or known[-1][1] != rows):
                known.append((time.monotonic() - self.start, rows))
        return sum(known[-1][1] for known in self.seen.values() if known)

    def rate(self, of: str) -> float | None:
        """Vectors a second of the encoder whose table is named like `of`, from its first write to its last.

        None where there was but one write.
        """
        known = next(known for name, known in self.seen.items() if of in name)
        (first, some), (last, every) = known[0], known[-1]
        return (every - some) / (last - first) if last > first else None


def main() -> None:
    """Measure, compare and record."""
    if not DATA.is_dir():
        sys.exit(f"there is no {DATA}; set MODALIGN_BENCH_DATA to the folder that holds flickr8k and esc")
    rows: list[list[object]] = []
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as name, Server(Path(name) / "prefect"):
        folder = Path(name)
        source = collected(folder / "mixed")
        base: Store | None = None
        whole = 0.0
        for case in cases():
            workspace = folder / "workspaces" / case.name.replace(" ", "-")
            watch, seconds, killed = run(case, source, workspace)
            store = Workspace(root=workspace).store
            base, whole = base or store, whole or seconds
            cosine, bits, found = compared(store, base)
            faults += [f"{case.name}: {fault}" for fault in found]
            rates = [watch.rate(part) or "" for part in ("lite2", "minilm", "logmel")]
            first = min(known[0][0] for known in watch.seen.values())
            rows.append([case.name, killed or "", seconds, first, *rates, whole / seconds, cosine, bits])
            print(rows[-1], file=sys.stderr, flush=True)
    columns = ["runner", "killed after vectors", "seconds", "until the first vectors"]
    columns += ["photos/s", "captions/s", "sounds/s", "speed-up", "least cosine", "vectors bit-equal"]
    told = (
        f"{PHOTOS:,} photos with 5 captions (Flickr8k, train) and {SOUNDS} sounds of five seconds, ingested anew by "
        f"lite2, MiniLM and logmel in shards of {SHARD}, each time by a command beside a Prefect server (SQLite). "
        "Workers here share the two CPUs (one thread each); those of the cluster were started from another directory. "
        "Rates are from an encoder's first write to its last; the speed-up is that of the whole command, start and "
        "imports included. Items, pairs and quarantine were compared with those of `thread` row for row, vectors by "
        f"cosine: **{len(faults)} differences**, and no key twice.\n\n"
    )
    record("runners", "Several workers", told + table(columns, rows))
    if faults:
        sys.exit("\n".join(faults))


def collected(root: Path) -> Path:
    """Photos with their captions and sounds with their titles, in one folder."""
    root.mkdir()
    lines = []
    for data, most in ((DATA / "train", PHOTOS), (DATA.parent / "esc" / "train", SOUNDS)):
        for line in (data / "metadata.jsonl").read_text(encoding="utf-8").splitlines()[:most]:
            row = json.loads(line)
            name = Path(row["file_name"]).name
            shutil.copy(data / row["file_name"], root / name)
            texts = row.get("captions") or [row.get("text") or row.get("caption") or row.get("title")]
            lines.append(json.dumps({"file_name": name, "captions": texts}))
    (root / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    lines.append(json.dumps({"file_name": "broken.jpg", "captions": ["broken"]}))
    (root / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def run(case: Case, source: Path, workspace: Path) -> tuple[Watch, float, int]:
    """Ingest by a command of its own: growth of its tables, seconds, the vectors that were there at the kill."""
    encoders = json.dumps({modality: [name] for modality, name in ENCODERS.items()})
    words = ["ingest", str(source), "-w", str(workspace), "--json", "--set", f"encode.encoders={encoders}"]
    words += ["--set", f"encode.shard_items={SHARD}", "--set", f"preprocess.shard_rows={SHARD}"]
    with cluster(workspace.parent) if case.cluster else here() as (address, pid):
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "flows", *words],
            env=environment() | dict(case.settings) | ({"MODALIGN_ADDRESS": address} if address else {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()))
        reader.start()
        watch, killed, store = Watch(start), 0, Workspace(root=workspace).store
        while process.poll() is None:
            rows = watch.look(store) if workspace.is_dir() else 0
            if case.kill and not killed and rows and kill_one(pid or process.pid):
                killed = rows
            time.sleep(0.25)
        reader.join()
        seconds = time.monotonic() - start
    if process.returncode:
        raise RuntimeError(f"{case.name} ended with {process.returncode}: {''.join(said)[-3_000:]}")
    watch.look(store)
    return watch, seconds, killed


def kill_one(pid: int) -> bool:
    """SIGKILL for the worker below process `pid` that has worked most; False if none is found."""
    found = []
    for one in psutil.Process(pid).children(recursive=True):
        words = " ".join(one.cmdline())
        if "spawn_main" in words or words.startswith("ray::encode"):
            found.append((one.cpu_times().user, one.pid))
    if found:
        os.kill(max(found)[1], signal.SIGKILL)
    return bool(found)


@contextmanager
def here() -> Iterator[tuple[str, int]]:
    """No cluster: workers are the command's own."""
    yield "", 0


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, int]]:
    """A Dask scheduler and two workers in another directory; its address, and the process above the workers."""
    address = "tcp://127.0.0.1:8799"
    env = environment() | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    folder.mkdir(exist_ok=True)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, "env": env}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "8799"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", "2", "--nthreads", "1"]
    with (
        subprocess.Popen([*dask, "--no-dashboard"], **quiet) as scheduler,
        subprocess.Popen([*worker, "--no-dashboard", "--memory-limit", "0"], **quiet) as workers,
    ):
        try:
            time.sleep(10)
            yield address, workers.pid
        finally:
            workers.terminate()
            workers.wait()
            scheduler.terminate()


def compared(store: Store, base: Store) -> tuple[float, str, list[str]]:
    """Least cosine of the vectors of two builds, whether their bits are equal, and what else is not."""
    ours, theirs = ({k: v for k, v in built(one).items() if not k.startswith("embeddings_")} for one in (store, base))
    faults = [*differences(ours, theirs), *(f"{name} holds a key twice" for name in repeated(store))]
    least, equal = 1.0, True
    for name in [name for name in base.names() if name.startswith("embeddings_")]:
        keys = sorted(base.strings(name, "content_hash"))
        if keys != sorted(store.strings(name, "content_hash")):
            faults.append(f"{name} holds other contents")
            continue
        (one, _), (other, _) = store.vectors(name, keys), base.vectors(name, keys)
        least = min(least, float((one.astype(np.float64) * other).sum(1).min()))
        equal = equal and bool(np.array_equal(one, other))
    if least < 0.9999:
        faults.append(f"a vector has cosine {least:.5f} to that of thread")
    return least, "yes" if equal else "no", faults
