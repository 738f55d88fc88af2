from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from storage import schemas
from storage.errors import StorageError
from storage.spaces import (
    CALIBRATION,
    PSEUDO_PAIRS,
    load_calibration,
    load_pseudo_pairs,
    load_space,
    publish,
    published,
    read_json,
    save_space,
    slug_of,
    write_json,
)
from storage.tables import Store

ARRAYS = {
    "image.matrix": np.arange(12, dtype=np.float32).reshape(3, 4),
    "strided": np.arange(12, dtype=np.float32).reshape(3, 4).T[::2],
    "tiny": np.array([1e-45, -0.0, np.pi], np.float32),
    "empty": np.empty((0, 4), np.float32),
}
CONFIG = {"name": "猫", "dim": 4, "heads": {"image": {"encoders": ["a"]}}, "none": None, "share": 0.1}


def test_a_space_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    """Arrays come back bit for bit however they lie in memory, the config and the card as they were; nothing else."""
    save_space(tmp_path / "s" / "id", ARRAYS, CONFIG, "# 空间\n")
    arrays, config = load_space(tmp_path / "s" / "id")
    assert config == CONFIG
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].shape, arrays[name].dtype) == (array.shape, array.dtype)
        assert arrays[name].tobytes() == array.tobytes()
    assert (tmp_path / "s" / "id" / "README.md").read_text(encoding="utf-8") == "# 空间\n"
    files = sorted(path.name for path in (tmp_path / "s").rglob("*"))
    assert files == ["README.md", "config.json", "heads.safetensors", "id"]


def test_a_space_saved_again_replaces_the_former(tmp_path: Path) -> None:
    """A second saving leaves the second space alone: no array, no metrics and no hidden folder of the first."""
    save_space(tmp_path / "s", ARRAYS, CONFIG, "first")
    write_json(tmp_path / "s" / "metrics.json", {"recall": 1})
    save_space(tmp_path / "s", {"only": ARRAYS["tiny"]}, {"name": "second"}, "second")
    arrays, config = load_space(tmp_path / "s")
    assert (list(arrays), config) == (["only"], {"name": "second"})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["README.md", "config.json", "heads.safetensors", "s"]


def test_a_saving_that_fails_leaves_the_former(tmp_path: Path) -> None:
    """A space that cannot be written whole leaves the one that was there."""
    save_space(tmp_path / "s", ARRAYS, CONFIG, "first")
    with pytest.raises(TypeError):
        save_space(tmp_path / "s", ARRAYS, {"bad": object()}, "second")
    assert load_space(tmp_path / "s")[1] == CONFIG


def test_pseudo_pairs_come_back_or_are_not_there(tmp_path: Path) -> None:
    """Rows come back as they were; without any there is no file, and a saving anew takes that of the former along."""
    row = {"bound": "", "round": 2, "view": 1, "from_modality": "image", "from_key": "a", "to_modality": "text"}
    rows = [row | {"to_key": key, "weight": weight, "certainty": 0.25} for key, weight in (("猫", 0.75), ("b", 0.25))]
    folder = tmp_path / "s"
    save_space(folder, ARRAYS, CONFIG, "", pseudo_pairs=pa.Table.from_pylist(rows, PSEUDO_PAIRS))
    assert load_pseudo_pairs(folder).to_pylist() == rows
    path = folder / "pseudo_pairs.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=re.escape(f"{path} cannot be read")):
        load_pseudo_pairs(folder)
    save_space(folder, ARRAYS, CONFIG, "", pseudo_pairs=PSEUDO_PAIRS.empty_table())
    assert not path.exists()
    assert load_pseudo_pairs(folder).equals(PSEUDO_PAIRS.empty_table())


@pytest.mark.parametrize("name", ["heads.safetensors", "config.json"])
@pytest.mark.parametrize("damage", [b"", b"\xff\xfe{", b"{", None], ids=["empty", "no text", "half", "gone"])
def test_a_damaged_space_is_named(tmp_path: Path, name: str, damage: bytes | None) -> None:
    """A file that is gone, empty, cut short or no text makes an error that names the folder."""
    save_space(tmp_path / "s", ARRAYS, CONFIG, "")
    if damage is None:
        (tmp_path / "s" / name).unlink()
    else:
        (tmp_path / "s" / name).write_bytes(damage)
    with pytest.raises(StorageError, match=f"the space in {re.escape(str(tmp_path / 's'))} cannot be read"):
        load_space(tmp_path / "s")


def test_heads_cut_short_are_damaged(tmp_path: Path) -> None:
    """A single byte that is missing at the end of the heads is found."""
    save_space(tmp_path / "s", ARRAYS, CONFIG, "")
    heads = tmp_path / "s" / "heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:-1])
    with pytest.raises(StorageError, match="cannot be read"):
        load_space(tmp_path / "s")


def test_json_is_written_whole(tmp_path: Path) -> None:
    """A value that is no JSON leaves the former file; folders are made; characters stay readable."""
    path = tmp_path / "a" / "b.json"
    write_json(path, {"name": "猫"})
    with pytest.raises(TypeError):
        write_json(path, {"name": object()})
    assert read_json(path) == {"name": "猫"}
    assert "猫" in path.read_text(encoding="utf-8")
    assert [one.name for one in path.parent.iterdir()] == ["b.json"]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=8, unique=True))
@example(["My Photos", "my-photos", "My_Photos", "my photos", "my--photos", "-my-photos"])
@example(["猫", "狗", "猫 狗", "", "-", "🐈"])
@example(["a" * 40, "a" * 41, "a" * 42, "A" * 40])
@example(["café", "cafe", "cafe\u0301"])
def test_slugs_are_plain_and_distinct(names: list[str]) -> None:
    """A slug is 1 to 40 of [a-z0-9-], no `-` at its ends, always the same; distinct names have distinct slugs."""
    slugs = [slug_of(name) for name in names]
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", slug) for slug in slugs)
    assert len(set(slugs)) == len(names)
    assert slugs == [slug_of(name) for name in names]


def test_a_plain_name_is_its_own_slug() -> None:
    """A name that fits stays readable as it is."""
    assert [slug_of(name) for name in ("flickr8k", "my-photos", "0")] == ["flickr8k", "my-photos", "0"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A database without tables."""
    return Store(tmp_path / "tables")


def test_publishing_switches_a_name(store: Store) -> None:
    """A name points to its last manifest, whole, and other names keep theirs."""
    publish(store, "a", {"space": {"id": 1}, "only in the first": True})
    publish(store, "b", {"space": "猫"})
    publish(store, "a", {"space": {"id": 2}})
    assert published(store, "a") == ("a", {"space": {"id": 2}})
    assert published(store, "b") == ("b", {"space": "猫"})
    assert store.count(schemas.PUBLISHED) == 2


def test_without_a_name_the_newest_counts(store: Store) -> None:
    """The space published last is the one in force, an old name published anew as well."""
    for name in ("a", "b", "c"):
        publish(store, name, {"n": name})
        assert published(store)[0] == name
    publish(store, "a", {"n": "again"})
    assert published(store) == ("a", {"n": "again"})


def test_an_unknown_name_tells_the_known_ones(store: Store) -> None:
    """Where nothing is published, or not under this name, the error says so and names what there is."""
    with pytest.raises(StorageError, match="this workspace holds no space yet"):
        published(store)
    with pytest.raises(StorageError, match=r"no space is published under 'x' \(known: none\)"):
        published(store, "x")
    for name in ("photos", "cats' 猫"):
        publish(store, name, {})
    with pytest.raises(StorageError, match=r"no space is published under 'x' \(known: cats' 猫, photos\)"):
        published(store, "x")
    assert published(store, "cats' 猫")[0] == "cats' 猫"


def test_a_calibration_is_optional(tmp_path: Path) -> None:
    """None beside the heads is none, nor is one of a newer program; one that cannot be read is named with its mend."""
    assert load_calibration(tmp_path) == {}
    write_json(tmp_path / CALIBRATION, {"schema": 1, "directions": {"a_to_b": {"usual": 2.0}}})
    assert load_calibration(tmp_path) == {"a_to_b": {"usual": 2.0}}
    write_json(tmp_path / CALIBRATION, {"schema": 2, "directions": {"a_to_b": {}}})
    assert load_calibration(tmp_path) == {}
    for text in ("{", "[]", '{"schema": 1}'):
        (tmp_path / CALIBRATION).write_text(text, encoding="utf-8")
        with pytest.raises(StorageError, match="evaluate"):
            load_calibration(tmp_path)
