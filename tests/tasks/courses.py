"""Histories of a collection beside another one, in a workspace with a space in force, and the law that each obeys."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

import tasks.encode
from config.params import AlignParams, GateParams, IndexParams, PipelineParams
from storage import schemas
from storage.promotions import manifest_of
from storage.workspace import Workspace
from tasks.encoders.registry import load
from tasks.fit import fit
from tasks.index import index_space
from tasks.moments import project_moments
from tasks.project import project_items
from tasks.promote import decide, enact
from tasks.refs import Aligned
from tests.flows.law import moment_faults
from tests.tasks import histories, updates
from tests.tasks.histories import Folder, record
from tests.tasks.updates import State, bring_up_to_date, build, state_of

SPACE = "both"
"""The space of the collections; over what lasts there is one of sounds, and one of clips."""


@dataclass
class Ground:
    """What all histories start from.

    Each workspace holds the collection `others`, whose contents `photos` shares in part, and a space fitted on it;
    `starts` are folders of photos with the workspaces in which they are up to date.
    """

    root: Path
    encoders: dict[str, tuple[str, ...]]
    paths: list[str]
    others: State
    starts: list[tuple[Folder, Path]]
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    def fresh(self) -> Path:
        """A folder for one history."""
        return self.root / f"history{next(self.numbers)}"


def params_of(encoders: dict[str, tuple[str, ...]], source: Path, **more: Any) -> PipelineParams:
    """Params for a few files: no budget of failures, few published versions, early compaction, parts and tracks."""
    small: dict[str, Any] = {
        "source": str(source),
        "encode": {"encoders": encoders, "parts": True},
        "preprocess": {
            "failure_budget": 1.0,
            "max_pixels": histories.LIMIT,
            "max_seconds": histories.LONGEST,
            "max_chars": 40,
            "sound_tracks": "alone",
        },
        "columns": {"lexical": ("tag",)},
        "keep": {"fragments": 3, "versions": 2},
    }
    for name, value in more.items():
        small[name] = {**small.get(name, {}), **value}
    return PipelineParams.model_validate(small)


def first_photos(root: Path, paths: list[str], *, plain: bool) -> Folder:
    """Photos, or what stands for them at `paths`, as a history finds them; the first row is never taken away."""
    at = dict(zip(histories.PATHS, paths, strict=True))
    folder = Folder(updates.make_folder(root))
    folder.put("keep.png", "good0")
    folder.lines.append(("", record("", ["keep.png"], ["a red circle"], tag="kept")))
    for number, path in enumerate(paths[:4]):
        folder.put(path, f"good{number + 1}")
        captions = histories.CAPTIONS[number : number + 1 + number % 2]
        folder.lines.append(("", record("", [path], captions)))
    if not plain:
        folder.put(at["sub/a.png"], "cut1")
        folder.put(at["test/t.png"], "good2")
        folder.put(at["sub/b.png"], "empty")
        folder.put("note.txt", "words")
        folder.lines += [
            ("", record("", [at["sub/a.png"], at["a.png"]], ["a red circle"], split="test", mood="sad")),
            ("test", record("test", [at["test/t.png"]], ["picture of a cross"], id="t")),
            ("", record("", [at["sub/b.png"]], ["the green square", ""], group="g")),
            ("", record("", [at["b.png"], at["a.png"]], [], group="g", tag="猫")),
            ("", record("", [at["c.png"], "note.txt"], ["the black bar on the left"])),
            ("", record("", [at["a.png"]], [], question="a red circle", answer=["a bar", "a cross", "a cross"])),
            ("", record("", [at["b.png"], at["a.png"]], [], question="the place", answer="left", answer_type="place")),
            ("", histories.JUNK[2]),
        ]
    folder.write()
    folder.remember()
    return folder


@contextmanager
def removed(folder: Path) -> Iterator[None]:
    """Take a folder away at the end of the block."""
    try:
        yield
    finally:
        shutil.rmtree(folder)


@contextmanager
def made_ground(
    encoders: dict[str, tuple[str, ...]], folder: Path, paths: list[str] = histories.PATHS
) -> Iterator[Ground]:
    """Collections, a space in force for each modality but text, and loaded encoders, made once.

    Encoders are loaded once for all workspaces. Histories edit files at `paths`.
    """
    memory = Path("/dev/shm")  # where there is such a disk in memory, all goes faster
    root = Path(tempfile.mkdtemp(prefix="modalign-law-", dir=memory if os.access(memory, os.W_OK) else folder))
    with removed(root), pytest.MonkeyPatch.context() as patch, disable_run_logger():

        def loaded(spec: Any, *, device: str, models_dir: Path, threads: int | None) -> Any:
            return load(spec, device=device, models_dir=root / "models", threads=threads)

        patch.setattr(tasks.encode, "load", loaded)
        others = Folder(updates.make_folder(root / "others"))
        for suffix in sorted({Path(path).suffix for path in paths} - {".jpg", ".txt"}):
            for number in range(8):
                path = f"{number}{suffix}"
                others.put(path, f"good{number}" if number < 4 else f"wide{number}")
                words = [f"{histories.CAPTIONS[number % 5]} number {number}", histories.CAPTIONS[number % 6]]
                others.lines.append(("", record("", [path], words, tag="x", split="train")))
            others.put(f"cut{suffix}", "cut0")
            others.lines.append(("", record("", [f"cut{suffix}"], ["a red circle"])))
        others.write()
        workspace = Workspace(root=root / "workspace")
        done = build(workspace, params_of(encoders, others.root))
        align = AlignParams(method="cca", dim=8, pca=8, folds=2, hubness_k=3)
        collections = ("others", "photos")
        for modality in sorted(encoders.keys() - {"text"}):
            encoded = tuple(one for one in done.encoded if one.modality in ("text", modality))
            name = SPACE if modality in ("audio", "image") else modality
            space = fit.fn(workspace, name, ("others",), done.groups.digest, encoded, align)
            project_items.fn(workspace, space, collections, encoded)
            index = index_space.fn(workspace, space, IndexParams())
            project_moments.fn(workspace, space, collections, encoded, IndexParams())
            aligned = Aligned(space=space, index=index, collections=collections, encoded=encoded, groups=done.groups)
            enact(workspace.store, aligned, decide(workspace.store, aligned, GateParams()))
        starts = []
        for name, plain in (("plain", True), ("tangled", False)):
            folder = first_photos(root / name / "photos", paths, plain=plain)
            shutil.copytree(workspace.root, root / name / "workspace")
            params = params_of(encoders, folder.root)
            bring_up_to_date(Workspace(root=root / name / "workspace"), params, upkeep=True)
            starts.append((folder, root / name / "workspace"))
        yield Ground(root, encoders, paths, state_of(workspace.store), starts)


@dataclass
class Course:
    """One history: the folder of photos and the workspace that follows it."""

    ground: Ground
    root: Path
    folder: Folder
    sizes: dict[str, int] = field(default_factory=lambda: {"rows": 4_096, "items": 4_096})
    readers: list[tuple[str, int, Counter[str], int]] = field(default_factory=list)
    published: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, ground: Ground, start: int) -> Course:
        """A copy of one of the starts."""
        root = ground.fresh()
        folder, workspace = ground.starts[start]
        shutil.copytree(workspace, root / "workspace")
        return cls(ground, root, folder.copied(root / "photos"))

    @property
    def workspace(self) -> Workspace:
        return Workspace(root=self.root / "workspace")

    @property
    def params(self) -> PipelineParams:
        """Params of an update."""
        parts = {"preprocess": {"shard_rows": self.sizes["rows"]}, "encode": {"shard_items": self.sizes["items"]}}
        return params_of(self.ground.encoders, self.folder.root, **parts)

    def update(self, *, verify: bool = False, upkeep: bool = False, refresh: bool = False) -> updates.Built:
        """Bring the workspace to what the folder holds."""
        params = self.params.model_copy(update={"refresh_cache": refresh})
        with updates.published_versions(self.published):
            done = bring_up_to_date(self.workspace, params, verify=verify, upkeep=upkeep)
        self.folder.remember()
        return done

    def open_reader(self) -> None:
        """Let somebody open what is published."""
        manifest = manifest_of(self.workspace.store, SPACE)
        assert manifest is not None
        table, version = manifest["index"]["table"], manifest["index"]["version"]
        rows = updates.read_back(self.workspace.store, table, version)
        self.readers.append((table, version, rows, len(self.published)))

    def check_readers(self) -> None:
        """Whoever opened one of the versions that are kept still reads the same rows."""
        for table, version, rows, since in self.readers:
            later = {one for one in self.published[since:] if one != version}
            if len(later) < self.params.keep.versions:
                assert updates.read_back(self.workspace.store, table, version) == rows

    def check(self) -> None:
        """Bring the workspace up to date; it must then equal a fresh build of the folder."""
        self.folder.write()
        done = self.update()
        self.check_readers()
        other = Workspace(root=updates.make_folder(self.root / "fresh"))
        fresh = build(other, params_of(self.ground.encoders, self.folder.root))
        assert_equal(self.ground, self.workspace, other)
        assert done.groups == fresh.groups
        shutil.rmtree(other.root)

    def end(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.root)


def assert_equal(ground: Ground, workspace: Workspace, fresh: Workspace) -> None:
    """The law of updates: the workspace against a fresh build of the photos alone, `others` being as it always was."""
    everything, wanted = state_of(workspace.store), state_of(fresh.store)
    found, others = everything.of("photos"), everything.of("others")
    for name in ("items", "pairs", "answers", "quarantine"):
        assert updates.differences(getattr(found, name), getattr(wanted, name)) == [], name
    for table in found.embeddings.keys() | wanted.embeddings.keys():
        both = ground.others.embeddings[table] | wanted.embeddings.get(table, {})
        assert updates.differences(found.embeddings.get(table, {}), both) == [], table
    for table in found.parts.keys() | wanted.parts.keys():
        beside = ground.others.parts[table] | wanted.parts.get(table, {})
        assert updates.differences(found.parts.get(table, {}), beside) == [], table
    for name in ("items", "pairs", "answers", "quarantine"):
        assert getattr(others, name) == getattr(ground.others, name)
    for name in workspace.store.strings(schemas.PUBLISHED, "name"):
        updates.assert_projected(workspace.store, name, [wanted, ground.others])
        if not {"audio", "video"}.isdisjoint(ground.encoders):
            assert moment_faults(workspace.store, name) == []
