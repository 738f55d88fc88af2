from __future__ import annotations

from pathlib import Path
from typing import Any

from storage import generated, schemas
from storage.catalog import make_tables
from storage.filters import eq
from storage.tables import Store
from tests.storage.rows import item, pair

WORDS = {"a": "image", "b": "image", "c": "video"}


def joined(key: str, text: str, collection: str, source: str) -> dict[str, Any]:
    """A pair of an item and a text, the lesser modality on the left."""
    ends = sorted([(WORDS[key[0]], key), ("text", text)])
    kinds, keys = zip(*ends, strict=True)
    more = {"left_modality": kinds[0], "right_modality": kinds[1], "collection": collection, "source": source}
    return pair(*keys, **more, key=f"{key}{text}{source}")


def captioned(store: Store, collection: str) -> None:
    """Three items with generated captions; that of the video stands on the left of its pair."""
    keys = [name + collection for name in WORDS]
    items = [item(key, collection=collection, modality=WORDS[key[0]], content_hash="1") for key in keys]
    store.upsert(schemas.ITEMS, schemas.items(), items)
    rows = [
        {"key": f"t{key}", "collection": collection, "item": key, "modality": WORDS[key[0]], "item_content": "1",
         "text": f"words of {key}", "content_hash": "w", "score": 0.5, "method": "m"}
        for key in keys
    ]  # fmt: skip
    pairs = [joined(key, f"t{key}", collection, "generated") for key in keys]
    assert generated.keep(store, rows, pairs) == 3


def there(store: Store, collection: str) -> tuple[set[str], set[str]]:
    """The captioned items, by the table and by the pairs."""
    here = eq("collection", collection)
    pairs = store.read(schemas.PAIRS, ["left", "right"], here & eq("source", "generated")).to_pylist()
    ends = {end for one in pairs for end in one.values() if not end.startswith("t")}
    return set(store.strings(schemas.GENERATED, "item", here)), ends


def test_captions_go_with_what_they_were_made_for(tmp_path: Path) -> None:
    """A caption goes, with its pair, when its item is gone, has another content, or a given text; others stay.

    Another collection keeps its own, and so do given pairs.
    """
    store = Store(tmp_path)
    make_tables(store)
    assert generated.sweep(store, "one") == 0
    captioned(store, "one")
    captioned(store, "two")
    assert generated.sweep(store, "one") == 0
    store.upsert(schemas.ITEMS, schemas.items(), [item("aone", collection="one", content_hash="2")])
    assert generated.sweep(store, "one") == 1
    assert there(store, "one") == ({"bone", "cone"}, {"bone", "cone"})
    store.upsert(schemas.PAIRS, schemas.pairs(), [joined("cone", "given", "one", "given")])
    assert generated.sweep(store, "one") == 1
    store.delete_keys(schemas.ITEMS, ["bone"])
    assert generated.sweep(store, "one") == 1
    assert there(store, "one") == (set(), set())
    assert there(store, "two") == ({"atwo", "btwo", "ctwo"},) * 2
    assert store.strings(schemas.PAIRS, "key", eq("source", "given")) == ["conegivengiven"]
    assert generated.drop(store, "two") == 3
    assert there(store, "two") == (set(), set())


def test_what_a_method_has_done(tmp_path: Path) -> None:
    """Done is what this method has captioned, and for which content; a later caption takes its place."""
    store = Store(tmp_path)
    make_tables(store)
    captioned(store, "one")
    assert generated.done(store, "one", "m") == {"aone": "1", "bone": "1", "cone": "1"}
    assert generated.done(store, "one", "another") == {}
    (row,) = store.read(schemas.GENERATED, schemas.generated().names, eq("item", "aone")).to_pylist()
    generated.keep(store, [row | {"method": "another", "text": "other words"}], [])
    assert generated.done(store, "one", "another") == {"aone": "1"}
    assert generated.texts_of(store, ["aone", "nobody"]) == {"aone": ("other words", "1")}
    assert generated.count(store, "one") == 3
