from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from config.params import KeepParams, UpdateParams
from flows.found import show_answer
from flows.gc import wanted_tables
from flows.ingest import ingest
from flows.pipeline import pipeline
from flows.update import update
from storage import schemas
from storage.filters import eq
from storage.tables import Store
from storage.workspace import Workspace
from tasks.encoders.registry import load, resolve
from tasks.media.registry import Limits, get
from tasks.refs import Updated
from tasks.search import Query, Searcher
from tasks.upkeep import keep_up
from tests.flows.law import built, differences, moment_faults
from tests.flows.runs import params_for
from tests.sounds import tone, written

RATE = 22_050
PITCHES = {"red": 300, "green": 700, "blue": 1_500, "yellow": 3_200, "black": 6_000}
CLIPS = 40
LONG, WHISTLE = 60.0, 42.0
"""Seconds of the long recording, and where its only high sound begins; that lasts two seconds."""
WINDOW, HOP = 5.0, 2.5


def long_recording(noise: int) -> bytes:
    """A low hum with one whistle in it."""
    samples = tone(LONG, 300, RATE, noise=noise)
    at = round(WHISTLE * RATE)
    samples[at : at + 2 * RATE] = tone(2.0, 6_000, RATE, noise=noise)
    return written(samples, rate=RATE)


@dataclass
class Made:
    """A folder of sounds with captions that name their pitch by a colour, and its workspace."""

    root: Path
    encoders: dict[str, tuple[str, ...]]

    @property
    def source(self) -> Path:
        return self.root / "sounds"

    @property
    def workspace(self) -> Workspace:
        return Workspace(root=self.root / "workspace")

    @property
    def store(self) -> Store:
        return self.workspace.store

    def write(self, names: list[str]) -> None:
        """The metadata: a caption for each file."""
        lines = [{"file_name": name, "caption": f"a {name.split('-')[0]} circle {name}"} for name in names]
        (self.source / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def names(self) -> list[str]:
        """Files of the folder."""
        return sorted(path.name for path in self.source.glob("*.wav"))

    def table(self, kind: str) -> str | None:
        """The one table of a kind."""
        found = [name for name in self.store.names() if name.startswith(f"{kind}_")]
        assert len(found) < 2
        return found[0] if found else None


def run(root: Path, encoders: dict[str, tuple[str, ...]], patch: pytest.MonkeyPatch) -> Made:
    """Short clips of five pitches and a long recording, run once with parts."""
    patch.setenv("MODALIGN_WORKSPACE", str(root / "workspace"))
    patch.chdir(root)
    one = Made(root, {"audio": ("builtin:logmel",), "text": encoders["text"]})
    one.source.mkdir()
    for number in range(CLIPS):
        colour = list(PITCHES)[number % len(PITCHES)]
        samples = tone(1.0 + number % 3, PITCHES[colour], RATE, noise=number)
        (one.source / f"{colour}-{number:02}.wav").write_bytes(written(samples, rate=RATE))
    (one.source / "red-long.wav").write_bytes(long_recording(1))
    one.write(one.names())
    pipeline(params_for(one.source, one.encoders, encode={"parts": True}, align={"dim": 4}))
    return one


@pytest.fixture(scope="module")
def kept(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Made]:
    """A collection that is not changed."""
    with pytest.MonkeyPatch.context() as patch:
        yield run(tmp_path_factory.mktemp("kept"), tiny_encoders, patch)


@pytest.fixture
def made(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Made:
    """One of its own."""
    return run(tmp_path, tiny_encoders, monkeypatch)


def encoded(done: Updated) -> Counter[str]:
    """How many contents of each modality an update has encoded."""
    out: Counter[str] = Counter()
    for stage in done.ingested[0].stages:
        out[stage.modality] += stage.encoded
    return out


def parts_of(made: Made, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Stored starts and vectors of a file's parts, in order of time."""
    table = made.table("parts")
    assert table is not None
    (content,) = made.store.strings(schemas.ITEMS, "content_hash", eq("uri", name))
    rows = made.store.read(table, ["number", "start", "vector"], eq("content_hash", content)).to_pylist()
    rows.sort(key=lambda row: row["number"])
    return np.array([row["start"] for row in rows]), np.array([row["vector"] for row in rows], np.float16)


def test_parts_are_those_of_the_encoder(kept: Made) -> None:
    """Each file's parts are stored with their starts, in half precision, and projected into the space by its head."""
    encoder = load(resolve("builtin:logmel"), device="cpu")
    names = kept.names()
    for name in ("blue-02.wav", "red-long.wav"):
        content = get("audio").decode((kept.source / name).read_bytes(), Limits())
        (parts,) = encoder.encode([encoder.transform(content)]).parts
        starts, vectors = parts_of(kept, name)
        assert np.array_equal(starts, parts.starts)
        assert np.array_equal(vectors, parts.vectors.astype(np.float16))
    assert len(parts_of(kept, "red-long.wav")[0]) == 1 + (LONG - WINDOW) / HOP
    table = kept.table("moments")
    assert table is not None
    assert kept.store.count(table) == len(names) - 1 + 1 + (LONG - WINDOW) / HOP
    assert moment_faults(kept.store, "sounds") == []


def test_a_sound_is_found_with_its_time(kept: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clip of the whistle finds, among whistles, the long recording, though as a whole it is a hum; with the start of
    a window that holds it, which the terminal shows. So do words that mean the whistle. Words alone have no time. What
    was measured on wholes is not said of parts.
    """
    whistle = tmp_path / "query.wav"
    whistle.write_bytes(written(tone(5.0, 6_000, RATE, noise=99), rate=RATE))
    searcher = Searcher(kept.workspace, device="cpu")
    answer = searcher.search(Query(file=whistle), target="audio", k=9)
    hits = {hit.uri: hit for hit in answer.hits}
    assert set(hits) - {"red-long.wav"} == {name for name in kept.names() if name.startswith("black")}
    assert all(hits[name].start == 0 for name in hits if name != "red-long.wav")
    long = hits["red-long.wav"]
    assert long.found_by == ("part",)
    assert long.start is not None
    assert WHISTLE - WINDOW < long.start < WHISTLE + 2
    show_answer(answer, {})
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "red-long.wav" in one]
    assert f"0:00:{int(long.start)}" in line
    assert {hit.probability for hit in answer.hits} == {None}
    said = searcher.search(Query(text="a black circle"), target="audio", k=CLIPS + 1, mode="vector").hits
    assert {hit.uri for hit in said} == set(kept.names())
    (start,) = [hit.start for hit in said if hit.uri == "red-long.wav"]
    assert start is not None
    assert WHISTLE - WINDOW < start < WHISTLE + 2
    plain = searcher.search(Query(text="black"), target="audio", k=3, mode="text").hits
    assert {hit.start for hit in plain} == {None}


def test_a_filter_holds_for_parts(kept: Made, tmp_path: Path) -> None:
    """With a filter the parts of other items find nothing."""
    whistle = tmp_path / "query.wav"
    whistle.write_bytes(written(tone(5.0, 6_000, RATE, noise=99), rate=RATE))
    searcher = Searcher(kept.workspace, device="cpu")
    only = searcher.search(Query(file=whistle), target="audio", k=9, where=eq("uri", "red-long.wav")).hits
    assert [(hit.uri, hit.found_by) for hit in only] == [("red-long.wav", ("part",))]
    assert only[0].start is not None
    assert WHISTLE - WINDOW < only[0].start < WHISTLE + 2
    assert searcher.search(Query(file=whistle), target="audio", k=9, where=eq("uri", "none")).hits == []


def test_an_update_brings_parts_along(made: Made) -> None:
    """A new file costs its own parts, a changed one too, one that is gone takes them away; all is as a fresh build.

    Without the param the next update drops parts and moments, and hits have no time; with it again, all that lasts is
    encoded once more, no text is, and every vector has the bits that it had.
    """
    (made.source / "red-long.wav").write_bytes(long_recording(2))
    (made.source / "blue-02.wav").unlink()
    (made.source / "green-99.wav").write_bytes(written(tone(8.0, 700, RATE), rate=RATE))
    made.write(made.names())
    done = update(UpdateParams())
    assert encoded(done) == {"audio": 2, "text": 1}
    assert moment_faults(made.store, "sounds") == []
    fresh = Made(made.root / "fresh", made.encoders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(fresh.workspace.root))
        ingest(params_for(made.source, made.encoders, encode={"parts": True}))
    assert differences(built(made.store), built(fresh.store)) == []
    before = {name: made.store.version(name) for name in made.store.names() if name.startswith(("parts", "moments"))}
    update(UpdateParams(upkeep=False))
    assert {name: made.store.version(name) for name in before} == before
    vectors = {name: rows for name, rows in built(made.store).items() if name.startswith("embeddings_")}
    done = update(UpdateParams(overrides=("encode.parts=false",)))
    assert done.ingested[0].stages == ()
    assert (made.table("parts"), made.table("moments")) == (None, None)
    searcher = Searcher(made.workspace, device="cpu")
    (hit, *_) = searcher.search(Query(text="a red circle"), target="audio", mode="vector").hits
    assert hit.start is None
    done = update(UpdateParams(overrides=("encode.parts=true",)))
    assert encoded(done) == {"audio": CLIPS + 1}
    assert {name: rows for name, rows in built(made.store).items() if name.startswith("embeddings_")} == vectors
    assert moment_faults(made.store, "sounds") == []


def test_parts_stay_while_somebody_keeps_them(kept: Made) -> None:
    """Upkeep leaves the parts that a collection keeps, and the moments of a space in force."""
    wanted = wanted_tables(kept.workspace, "cpu")
    assert kept.table("parts") in wanted
    assert keep_up.fn(kept.workspace, KeepParams(), wanted, dry_run=True).dropped == ()
    assert kept.table("moments") is not None
