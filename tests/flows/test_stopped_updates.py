from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.ingest import ingest
from flows.pipeline import pipeline
from storage import schemas
from storage.promotions import manifest_of
from storage.tables import Store
from storage.workspace import Workspace
from tasks.search import Query, Searcher
from tests.flows.law import built, differences, projection_faults, repeated
from tests.flows.processes import Command, here, modalign, reason
from tests.flows.runs import params_for
from tests.tiny import draw, write_collection

pytestmark = pytest.mark.slow
PICTURES, MORE = 40, 20
DISK = 24_000_000  # bytes
STEP = 250_000  # bytes of free space more at each attempt


class Made:
    """A collection that was run once and has changed since, and what a fresh build of its last state holds."""

    def __init__(self, folder: Path, encoders: dict[str, tuple[str, ...]]) -> None:
        self.source, self.changed, self.root = folder / "shapes", folder / "changed", folder / "workspace"
        self.params = params_for(write_collection(self.source, PICTURES), encoders)
        with workspace_at(self.root):
            pipeline(self.params)
        write_collection(self.source, MORE, first=PICTURES)
        draw(77)[0].save(self.source / "0001.png")
        lines = (self.source / "metadata.jsonl").read_text().splitlines()
        (self.source / "metadata.jsonl").write_text("\n".join(lines[:5] + lines[6:]) + "\n")
        shutil.copytree(self.source, self.changed)
        fresh = Workspace(root=folder / "fresh")
        with workspace_at(fresh.root):
            ingest(self.params)
        self.fresh = built(fresh.store)


class Case:
    """A copy of that workspace on a disk of its own, with the changed source where it was run."""

    def __init__(self, folder: Path, made: Made) -> None:
        self.made, self.source = made, made.source
        self.disk = folder / "disk"
        self.root = self.disk / "workspace"

    def begin(self) -> None:
        """Bring copy and source to their state, open a searcher and keep its answers."""
        shutil.copytree(self.made.root, self.root)
        shutil.rmtree(self.source)
        shutil.copytree(self.made.changed, self.source)
        self.searcher = Searcher(self.workspace)
        self.before = self._answers(self.searcher)
        self.manifest = manifest_of(self.store, "shapes")

    @property
    def workspace(self) -> Workspace:
        return Workspace(root=self.root)

    @property
    def store(self) -> Store:
        return self.workspace.store

    def _answers(self, searcher: Searcher) -> list[tuple[str, float]]:
        words = searcher.search(Query(text="a red circle"), mode="vector", k=5)
        picture = searcher.search(Query(file=self.source / "0002.png"), k=5)
        return [(hit.key, hit.score) for hit in words.hits + picture.hits]

    def update(self) -> Command:
        """`modalign update` in a process of its own."""
        return modalign("update", *here(self.root))

    def stopped(self, done: Command) -> str:
        """An update stopped in one line and without a traceback, and took nothing away from searches, opened before or
        anew: these see the old state, or the whole of the new one. Gives the line.
        """
        assert done.end() == 1, done.said[-10:]
        assert done.printed == []
        assert not any("Traceback" in line for line in done.said)
        assert self._answers(self.searcher) == self.before
        anew = self._answers(Searcher(self.workspace))
        if manifest_of(self.store, "shapes") == self.manifest:
            assert anew == self.before
        else:  # stopped after it had published
            assert projection_faults(self.store, "shapes") == []
        return reason(done)

    def mended(self) -> None:
        """The same command completes, and all is as if nothing had ever been wrong."""
        done = self.update()
        assert done.end() == 0, done.said[-10:]
        assert repeated(self.store) == []
        assert projection_faults(self.store, "shapes") == []
        assert self._answers(Searcher(self.workspace)) != self.before
        assert differences(built(self.store), self.made.fresh) == []


@contextmanager
def workspace_at(root: Path) -> Iterator[None]:
    """Flows write there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODALIGN_WORKSPACE", str(root))
        yield


def mount(*words: str) -> bool:
    """Whether the system lets us mount."""
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def once(
    prefect_server: None, tiny_encoders: dict[str, tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory
) -> Made:
    """What all cases copy."""
    return Made(tmp_path_factory.mktemp("once"), tiny_encoders)


@pytest.fixture
def made(once: Made, tmp_path: Path) -> Case:
    """A case on the common disk."""
    one = Case(tmp_path, once)
    one.begin()
    return one


@pytest.fixture
def small(once: Made, tmp_path: Path) -> Iterator[Case]:
    """A case on a disk of a few megabytes."""
    one = Case(tmp_path, once)
    one.disk.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(one.disk)):
        pytest.skip("a small disk cannot be mounted here")
    try:
        one.begin()
        yield one
    finally:
        subprocess.run(["umount", "--lazy", str(one.disk)], check=True)


def test_a_full_disk(small: Case) -> None:
    """On a disk that is full, or has too little space for the next step, the update names what it could not write, and
    says to free some space; with enough of it the same command completes.
    """
    filler = small.disk / "filler"
    named = []
    for number in range(12):
        filler.unlink(missing_ok=True)
        filler.write_bytes(bytes(max(0, shutil.disk_usage(small.disk).free - number * STEP)))
        done = small.update()
        if number and done.end() == 0:
            break
        line = small.stopped(done)
        assert line.startswith("modalign: the disk is full while writing ")
        assert line.endswith("; free some space and run again")
        named.append(line)
    assert len(set(named)) >= 3, "the disk is to be full at several steps"
    filler.unlink()
    small.mended()


def test_a_read_only_workspace(small: Case) -> None:
    """On a disk that may not be written the update says so of the workspace; searches go on, in new processes too."""
    assert mount("-o", "remount,ro", str(small.disk))
    line = small.stopped(small.update())
    assert line == (
        f"modalign: the workspace {small.root} cannot be written (Read-only file system); check its rights and free "
        "space"
    )
    found = modalign("search", "a red circle", "--to", "image", *here(small.root))
    assert found.end() == 0
    assert found.said == []
    assert mount("-o", "remount,rw", str(small.disk))
    small.mended()


def test_read_only_tables(small: Case) -> None:
    """Where the tables alone may not be written the update names the first table that it had to write."""
    tables = str(small.root / "tables")
    assert mount("--bind", tables, tables)
    try:
        assert mount("-o", "remount,ro,bind", tables)
        line = small.stopped(small.update())
    finally:
        subprocess.run(["umount", "--lazy", tables], check=True)
    assert line.endswith("cannot be written (Read-only file system); check the rights of the workspace")
    assert line.removeprefix("modalign: ").split()[0] in small.store.names()
    small.mended()


@pytest.mark.parametrize("table", [schemas.ITEMS, schemas.PUBLISHED])
def test_a_table_of_a_newer_program(made: Case, table: str) -> None:
    """A table that a newer modalign has written stops the update by its name, and is not written; searches that need it
    not go on. With the upgrade undone the same command completes.
    """
    data: Any = made.store.open(table).to_lance()
    metadata = {key.decode(): value.decode() for key, value in data.schema.metadata.items()}
    key = schemas.VERSION_KEY.decode()
    data.update_schema_metadata(metadata | {key: "99"}, replace=True)
    version = data.version
    searches = Searcher(made.workspace) if table != schemas.PUBLISHED else None
    done = made.update()
    assert done.end() == 1
    assert reason(done) == (
        f"modalign: table {table} was written by a newer modalign (schema 99, this one knows "
        f"{schemas.SCHEMA_VERSION}); upgrade modalign, or use another workspace"
    )
    assert made._answers(made.searcher) == made.before
    if searches is not None:
        assert made._answers(searches) == made.before
    assert data.latest_version == version
    data.update_schema_metadata(metadata, replace=True)
    made.mended()


@pytest.mark.parametrize("kind", ["items", "pairs", "buckets", "embeddings"])
def test_a_damaged_table(made: Case, kind: str) -> None:
    """A table whose files are gone stops the update by its name; without its folder, as the line says, the same command
    makes it anew.
    """
    name = next(name for name in made.store.names() if name.startswith(kind))
    folder = made.root / "tables" / f"{name}.lance"
    for path in (folder / "data").iterdir():
        path.unlink()
    line = made.stopped(made.update())
    assert line == f"modalign: a file of table {name} is gone or damaged; delete the table's folder and run again"
    shutil.rmtree(folder)
    made.mended()


def test_a_source_that_is_gone(made: Case) -> None:
    """A source that is not there is bad input, said by its name; nothing is taken for deleted, and once it is back, it
    is read as if it had never been away.
    """
    away = made.source.with_name("away")
    made.source.rename(away)
    answers, rows = made.searcher.search(Query(text="red"), k=5, mode="vector"), made.store.count(schemas.ITEMS)
    done = made.update()
    assert done.end() == 2
    assert str(made.source) in reason(done)
    assert made.searcher.search(Query(text="red"), k=5, mode="vector") == answers
    assert made.store.count(schemas.ITEMS) == rows
    away.rename(made.source)
    made.mended()
