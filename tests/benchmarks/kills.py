"""SIGKILL of the real process at random moments of every stage, while searches go on and the collection changes."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.workspace import Workspace
from tests.benchmarks.killing import Killed, Server, ask, environment, kill_during
from tests.benchmarks.results import record, table
from tests.flows.law import built, differences, projection_faults, repeated
from tests.tiny import draw, save_encoders

ROWS = 600
SEED = 7
CHECKED = 6
"""Each so many kills the tables are compared with a fresh build."""
LIMIT = 45 * 60.0
"""Seconds after which no further kill begins."""

STAGES = {
    "scan source": "scan",
    "preprocess": "preprocess",
    "group items": "preprocess",
    "check failures": "preprocess",
    "plan encoding": "encode",
    "encode": "encode",
    "project items": "project",
    "index space": "index",
    "fit space": "fit",
    "evaluate": "assess",
    "assess drift": "assess",
    "promote": "promote",
    "upkeep": "upkeep",
    "forget old runs": "upkeep",
}
"""Prefect's task names, and the stages they belong to."""


@dataclass(frozen=True)
class Target:
    """A kill within `seconds` of the beginning of the `number`-th task `task` of a command."""

    command: str
    task: str
    number: int
    seconds: float


def targets(rng: random.Random) -> Iterator[Target]:
    """All kills, in random order; each of `gc` follows an update that left its upkeep undone."""
    plain = [
        *[Target("update", "scan source", 1, 0.3) for _ in range(2)],
        *[Target("update", "preprocess", rng.randint(1, 3), 0.3) for _ in range(3)],
        Target("update", "group items", 1, 0.3),
        Target("update", "encode", 1, 6.0),
        *[Target("update", "encode", rng.randint(2, 5), 0.4) for _ in range(4)],
        *[Target("update", "project items", 1, 0.4) for _ in range(2)],
        *[Target("update", "index space", 1, 0.1) for _ in range(2)],
        *[Target("update", "promote", 1, 0.05) for _ in range(3)],
        Target("update", "assess drift", 1, 0.2),
        *[Target("update", "upkeep", 1, 0.5) for _ in range(3)],
        *[Target("refit", "fit space", 1, 2.0) for _ in range(2)],
        Target("refit", "project items", 2, 0.4),
        Target("refit", "index space", 2, 0.1),
        Target("refit", "promote", 2, 0.08),
        Target("run", "encode", rng.randint(1, 8), 0.5),
        Target("run", "fit space", 1, 3.0),
        Target("run", "promote", 1, 0.05),
        Target("refresh", "project items", 1, 0.5),
    ]
    rng.shuffle(plain)
    waste = [Target("untidy", "encode", 2, 0.4), Target("untidy", "promote", 1, 0.05)]
    places = set(rng.sample(range(len(plain)), len(waste)))
    for place, target in enumerate(plain):
        yield target
        if place in places:
            yield waste.pop()
            yield Target("gc", "upkeep", 1, 0.4)


class Drawn:
    """A folder of drawn pictures with captions that changes as real ones do."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root, self._rng, self._next = root, rng, 0
        self._rows: list[dict[str, Any]] = []
        root.mkdir()
        for _ in range(ROWS):
            self._add()
        self._write()

    def change(self) -> None:
        """Add, replace, move and remove pictures, change captions, break one file and mend what was broken before."""
        for row in self._rows:
            if (self.root / row["file_name"]).stat().st_size < 200:
                self._paint(row)
        some = iter(self._rng.sample(self._rows, 36))
        for _ in range(6):
            row = next(some)
            name = f"moved-{self._number():05}.png"
            (self.root / row["file_name"]).rename(self.root / name)
            row["file_name"] = name
            self._paint(next(some))
            gone = next(some)
            (self.root / gone["file_name"]).unlink()
            self._rows.remove(gone)
            next(some)["caption"] += f" {self._number()}"
            next(some)["caption"] = next(some)["caption"].upper()
            self._add()
        broken = self.root / self._rng.choice(self._rows)["file_name"]
        broken.write_bytes(self._rng.choice([b"", broken.read_bytes()[:150]]))
        self._write()

    def _add(self) -> None:
        row = {"file_name": f"{self._number():05}.png"}
        self._rows.append(row)
        self._paint(row)

    def _paint(self, row: dict[str, Any]) -> None:
        number = self._number()
        picture, words = draw(number)
        picture.resize((96, 96)).save(self.root / row["file_name"])
        row["caption"] = f"{words} {number % 7}"

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _write(self) -> None:
        lines = [json.dumps(row) for row in self._rows]
        (self.root / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


class Trial:
    """One workspace, its changing source, and what befell them."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self.folder, self._rng = folder, rng
        self.source = Drawn(folder / "shapes", rng)
        self.workspace = folder / "workspace"
        _, self._text = save_encoders(folder / "encoders")
        self.killed: list[Killed] = []
        self.faults: list[str] = []
        self.compared = 0
        self._fits = 0

    def words(self, command: str) -> list[str]:
        """A command line."""
        if command == "gc":
            return ["gc", "-w", str(self.workspace), "--set", "keep.spaces=1"]
        update = ["update", "-w", str(self.workspace), "--set", "encode.shard_items=12"]
        update += ["--set", "preprocess.shard_rows=15"]
        if command in ("update", "untidy"):
            return [*update, *(["--no-upkeep"] if command == "untidy" else [])]
        self._fits += 1
        if command == "refit":
            return [*update, "--refit", "--set", f"align.seed={self._fits}"]
        again = ["--refresh"] if command == "refresh" else []
        shards = ["--set", "encode.shard_items=40", "--set", "preprocess.shard_rows=50"]
        sets = [*self._options(), "--set", f"align.seed={self._fits}", *shards, *again]
        return ["run", str(self.source.root), "-w", str(self.workspace), *sets]

    def _options(self) -> list[str]:
        encoders = json.dumps({"image": ["builtin:efficientnet-lite0"], "text": [self._text]})
        options = [f"encode.encoders={encoders}", "align.dim=16", "align.pca=32", "assess.draws=100"]
        options += ["align.method=cca", "assess.controls=2", "gate.policy=always", "refit.policy=never"]
        return [word for option in options for word in ("--set", option)]

    def run(self, words: Sequence[str]) -> None:
        """Run a command to its end, undisturbed."""
        done = subprocess.run(
            [sys.executable, "-m", "flows", *words],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=1_200,
        )
        if done.returncode:
            self.blame(f"{words[0]} ended with {done.returncode}: {done.stderr[-1_500:]}")
        if "waiting" in done.stderr:
            self.blame(f"{words[0]} had to wait after a kill")

    def kill(self, target: Target) -> bool:
        """Kill a command in the stage that is wanted, or tell that it ended before."""
        words = self.words(target.command)
        found = kill_during(words, target.task, target.number, self._rng.uniform(0, target.seconds))
        if found is not None:
            self.killed.append(found)
        self._again = words
        return found is not None

    def again(self) -> None:
        """The same command once more; then the tables hold each key once, and the space what it should."""
        self.run(self._again)
        store = Workspace(root=self.workspace).store
        for name in repeated(store):
            self.blame(f"table {name} holds a key twice")
        for fault in projection_faults(store, self.source.root.name)[:3]:
            self.blame(fault)

    def compare(self) -> None:
        """Compare with an undisturbed build of the same folder in another workspace."""
        fresh = self.folder / f"fresh-{self.compared}"
        self.run(["ingest", str(self.source.root), "-w", str(fresh), *self._options()])
        self.compared += 1
        for line in differences(*(built(Workspace(root=root).store) for root in (self.workspace, fresh))):
            self.blame(line)

    def blame(self, text: str) -> None:
        """Note what should not have been."""
        where = self.killed[-1] if self.killed else "before the first kill"
        self.faults.append(f"after {where}: {text}")
        print(f"FAULT after {where}: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and record."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the server and the searches end as well
    start = time.perf_counter()
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name, Server(Path(name) / "prefect") as server:
        folder = Path(name)
        trial = Trial(folder, rng)
        draw(3)[0].resize((96, 96)).save(folder / "query.png")
        trial.run(trial.words("run"))
        with Asking(trial.workspace, folder / "query.png") as asking:
            missed = 0
            for target in targets(rng):
                if time.perf_counter() - start > LIMIT:
                    break
                if target.command != "gc":
                    trial.source.change()
                server.check()
                if not trial.kill(target):
                    missed += 1
                    continue
                asking.wait(3)
                if target.command in ("update", "refit") and rng.random() < 0.3:
                    trial.source.change()
                trial.again()
                asking.turn()
                took = time.perf_counter() - start
                print(f"{took:5.0f} s, kill {len(trial.killed)}: {trial.killed[-1]}", file=sys.stderr, flush=True)
                if len(trial.killed) % CHECKED == 0:
                    trial.compare()
            trial.compare()
            asking.wait(3)
        counts, errors = asking.counts, asking.errors
    report(trial, missed, counts, errors, time.perf_counter() - start)
    if trial.faults or errors:
        sys.exit("\n".join([*trial.faults, *errors]))


class Asking:
    """Searches in a process of their own, throughout the block."""

    def __init__(self, workspace: Path, picture: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._answers = {kind: context.Value("l", 0) for kind in ("held", "anew")}
        self._turn, self._stop, self._said = context.Value("l", 0), context.Event(), context.SimpleQueue()
        args = (workspace, picture, self._answers, self._turn, self._stop, self._said)
        self._process = context.Process(target=ask, args=args)
        self.errors: list[str] = []

    def __enter__(self) -> Asking:
        self._process.start()
        self.wait(1)
        return self

    def turn(self) -> None:
        """Have the searcher that is held open be opened anew."""
        self._turn.value += 1

    def wait(self, rounds: int) -> None:
        """Until so many further rounds of questions have been asked."""
        until = self._answers["anew"].value + 3 * rounds
        limit = time.monotonic() + 120
        while self._answers["anew"].value < until and time.monotonic() < limit and self._process.is_alive():
            time.sleep(0.05)
            self._hear()

    def _hear(self) -> None:
        while not self._said.empty():
            self.errors.append(self._said.get())
            print(f"FAULT of a search: {self.errors[-1]}", file=sys.stderr, flush=True)

    @property
    def counts(self) -> dict[str, int]:
        """Answers by kind of searcher."""
        return {kind: int(value.value) for kind, value in self._answers.items()}

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._process.join(60)
        self._hear()
        if self._process.exitcode != 0:
            self.errors.append(f"the process that searches ended with {self._process.exitcode}")


def report(trial: Trial, missed: int, counts: dict[str, int], errors: list[str], seconds: float) -> None:
    """The section in RESULTS.md."""
    by_stage = Counter((STAGES[one.task], one.command) for one in trial.killed)
    stages = list(dict.fromkeys(STAGES.values()))
    commands = ["run", "update", "gc"]
    rows: list[list[object]] = [
        [stage, *(by_stage[stage, command] for command in commands), sum(by_stage[stage, c] for c in commands)]
        for stage in stages
    ]
    rows.append(["**all**", *(sum(by_stage[s, c] for s in stages) for c in commands), len(trial.killed)])
    told = (
        f"A collection of {ROWS} drawn pictures with captions; efficientnet-lite0 and a tiny text encoder; shards of 12"
        " to 50. Before each kill some 36 rows are added, replaced, moved, removed or reworded, and a file is broken; "
        f"`modalign run`, `update` or `gc` is killed at a random moment of a stage (seed {SEED}), and run again. "
        f"{missed} further runs ended before their kill. Meanwhile another process searches: {counts['held']:,} "
        f"answers of searchers opened before a kill, {counts['anew']:,} of searchers opened anew, **{len(errors)} "
        "errors**. "
        f"{trial.compared} comparisons with an undisturbed build of the same folder, bit for bit, and "
        f"{len(trial.killed)} of the space's table with a projection in plain numpy: **{len(trial.faults)} "
        f"differences**. {seconds:,.0f} s in all.\n\n"
    )
    record("kills", "Kills", told + table(["stage", *commands, "kills"], rows))
