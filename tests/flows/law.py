"""The law of updates, checked apart from the code that keeps it: plain Python and numpy over what the tables hold."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from storage import schemas
from storage.promotions import manifest_of
from storage.tables import Store
from tests.flows.runs import contents

FLEETING = ("attempts", "first_seen", "last_seen")
Wide = npt.NDArray[np.float64]


def built(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """All that equals a fresh build: items, given pairs, answers, quarantine, embeddings, parts."""
    embeddings = [name for name in store.names() if name.startswith(("embeddings_", "parts_"))]
    names = [schemas.ITEMS, schemas.PAIRS, schemas.ANSWERS, schemas.QUARANTINE, *embeddings]
    return {name: contents(store, name, without=FLEETING) for name in names}


def differences(one: dict[str, list[tuple[Any, ...]]], other: dict[str, list[tuple[Any, ...]]]) -> list[str]:
    """What two builds do not share, a line a table; [] if they are equal."""
    out = []
    for name in sorted(one.keys() | other.keys()):
        left, right = one.get(name, []), other.get(name, [])
        if left != right:
            odd = [str(row)[:300] for row in {*left} ^ {*right}][:2]
            out.append(f"{name}: {len(left)} rows against {len(right)}, for instance {odd}")
    return out


def repeated(store: Store) -> list[str]:
    """Tables that hold a key twice."""
    found = []
    for name in store.names():
        keys = store.strings(name, schemas.key_of(store.schema(name)))
        if len(keys) != len(set(keys)):
            found.append(name)
    return found


def projection_faults(store: Store, name: str) -> list[str]:
    """Where the published table of a space is not its items, each projected from its stored embedding; [] if it is."""
    manifest = manifest_of(store, name)
    assert manifest is not None
    folder = Path(manifest["space"]["path"])
    arrays, config = load_file(folder / "heads.safetensors"), json.loads((folder / "config.json").read_text())
    at = {"version": manifest["index"]["version"]}
    table = manifest["space"]["table"]
    rows = {row["key"]: row for row in store.read(table, store.schema(table).names, **at).to_pylist()}
    collections = set(manifest["collections"])
    columns = schemas.items().names
    items = [row for row in store.read(schemas.ITEMS, columns).to_pylist() if row["collection"] in collections]
    words = _words(store, items)
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    for one in manifest["encoded"]:
        tables[one["modality"]][one["encoder"]] = one["table"]
    known = {
        table: {row["content_hash"]: row["vector"] for row in store.read(table, ["content_hash", "vector"]).to_pylist()}
        for of in tables.values()
        for table in of.values()
    }
    wanted = [
        item
        for item in items
        if item["modality"] in config["heads"]
        and all(item["content_hash"] in known[table] for table in tables[item["modality"]].values())
    ]
    faults = []
    if {item["key"] for item in wanted} != rows.keys():
        odd = {item["key"] for item in wanted} ^ rows.keys()
        faults.append(f"{len(odd)} of {len(wanted)} items stand on one side alone")
    for modality in config["heads"]:
        own = [item for item in wanted if item["modality"] == modality and item["key"] in rows]
        vectors = {
            encoder: np.asarray([known[table][item["content_hash"]] for item in own], np.float64)
            for encoder, table in tables[modality].items()
        }
        z = _project(arrays, config, modality, vectors)
        stored = np.asarray([rows[item["key"]]["vector"] for item in own])
        if np.abs(z - stored).max() > 1e-5:
            faults.append(f"vectors of {modality} are off by {np.abs(z - stored).max():.2g}")
        for query in config["heads"]:
            bank = arrays[f"{query}.bank"].astype(np.float64)
            term = np.sort(z @ bank.T, axis=1)[:, -config["hubness_k"] :].mean(1)
            gap = np.abs(term - np.asarray([rows[item["key"]][f"hubness_{query}"] for item in own])).max()
            if gap > 1e-5:
                faults.append(f"hubness of {modality} towards {query} is off by {gap:.2g}")
    plain = ("collection", "modality", "content_hash", "group", "split", "uri", "attributes")
    for item in wanted:
        row = rows.get(item["key"])
        if row is None:
            continue
        faults += [f"{column} of {item['key']} is {row[column]!r}" for column in plain if row[column] != item[column]]
        if row["text"] != words[item["key"]]:
            faults.append(f"the words of {item['key']} are {row['text']!r}, not {words[item['key']]!r}")
    return faults


def moment_faults(store: Store, name: str) -> list[str]:
    """Where the moments of the space in force are not the parts of its items, each projected; [] if they are."""
    manifest = manifest_of(store, name)
    assert manifest is not None
    folder = Path(manifest["space"]["path"])
    arrays, config = load_file(folder / "heads.safetensors"), json.loads((folder / "config.json").read_text())
    table = manifest["space"]["table"].replace("space_", "moments_", 1)
    rows = {row["key"]: row for row in store.read(table, store.schema(table).names).to_pylist()}
    faults = []
    for modality in config["heads"]:
        own = {
            one["encoder"]: one["table"].replace("embeddings_", "parts_", 1)
            for one in manifest["encoded"]
            if one["modality"] == modality
        }
        here = [row for row in rows.values() if row["modality"] == modality]
        if not all(store.exists(one) for one in own.values()):
            faults += [f"{len(here)} moments of {modality} without parts"] if here else []
            continue
        items = store.read(schemas.ITEMS, ["collection", "modality", "content_hash"]).to_pylist()
        contents = {
            item["content_hash"]
            for item in items
            if item["modality"] == modality and item["collection"] in manifest["collections"]
        }
        columns = ["content_hash", "number", "start", "vector"]
        parts: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for encoder, one in own.items():
            by_content = parts[encoder] = defaultdict(list)
            for row in sorted(store.read(one, columns).to_pylist(), key=lambda row: row["number"]):
                by_content[row["content_hash"]].append(row)
        first, *_ = parts.values()
        wanted = {
            f"{modality}-{content}-{part['number']}": (content, part["start"])
            for content in contents
            if all(content in one for one in parts.values())
            for part in first[content]
        }
        found = {row["key"]: (row["content_hash"], row["start"]) for row in here}
        if found != wanted:
            faults.append(f"{len(found.items() ^ wanted.items())} moments of {modality} differ")
            continue
        vectors = {
            encoder: np.asarray(
                [
                    min(one[content], key=lambda part: abs(part["start"] - start))["vector"]
                    for content, start in wanted.values()
                ],
                np.float64,
            )
            for encoder, one in parts.items()
        }
        z = _project(arrays, config, modality, vectors)
        stored = np.asarray([rows[key]["vector"] for key in wanted])
        if np.abs(z - stored).max(initial=0) > 1e-5:
            faults.append(f"moments of {modality} are off by {np.abs(z - stored).max():.2g}")
        for query in config["heads"]:
            bank = arrays[f"{query}.bank"].astype(np.float64)
            term = np.sort(z @ bank.T, axis=1)[:, -config["hubness_k"] :].mean(1)
            gap = np.abs(term - np.asarray([rows[key][f"hubness_{query}"] for key in wanted])).max(initial=0)
            if gap > 1e-5:
                faults.append(f"hubness of moments of {modality} towards {query} is off by {gap:.2g}")
    return faults


def _project(arrays: dict[str, Any], config: dict[str, Any], modality: str, vectors: dict[str, Wide]) -> Wide:
    """Each encoder's vectors: square root of CNNs, minus the mean, to unit length, on its axes; then the head."""
    lead, about = f"{modality}.features.", config["heads"][modality]
    parts = []
    for place, encoder in enumerate(about["encoders"]):
        x = vectors[encoder]
        if about["cnn"][encoder]:
            x = np.sign(x) * np.sqrt(np.abs(x))
        parts.append(_unit(x - arrays[f"{lead}encoder{place}.mean"]) @ arrays[f"{lead}encoder{place}.axes"])
    joined = np.concatenate(parts, 1) / np.sqrt(len(parts)) - arrays[f"{lead}mean"]
    return _unit(joined @ arrays[f"{lead}rotation"] @ arrays[f"{modality}.map.matrix"])


def _unit(x: Wide) -> Wide:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _words(store: Store, items: list[dict[str, Any]]) -> dict[str, str]:
    """Of a text itself, of a medium the texts paired with it; then its words for full text alone."""
    texts = {item["key"]: item["text"] for item in items if item["text"] is not None}
    said: dict[str, list[str]] = defaultdict(list)
    for pair in store.read(schemas.PAIRS, ["left", "right", "source"]).to_pylist():
        for one, other in ((pair["left"], pair["right"]), (pair["right"], pair["left"])):
            if pair["source"] == "given" and other in texts:
                said[one].append(texts[other])
    return {
        item["key"]: " · ".join(
            filter(None, [item["text"], *(sorted(said[item["key"]]) if item["text"] is None else []), item["lexical"]])
        )
        for item in items
    }
