from __future__ import annotations

import json

import numpy as np
from safetensors.numpy import load, save

from tasks.alignment.features import Features
from tasks.alignment.maps import Linear
from tasks.alignment.space import Head, JointSpace


def embeddings(n: int, seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Embeddings {modality: {encoder: (n, d)}} of three encoders, one of them with the heavy tail of a CNN."""
    generator = np.random.default_rng(seed)
    heavy = generator.exponential(size=(n, 30)).astype(np.float32)
    vit, bert = (generator.normal(size=(n, width)).astype(np.float32) for width in (20, 12))
    return {"image": {"cnn": heavy, "vit": vit}, "text": {"bert": bert}}


def space() -> JointSpace:
    """A space of two modalities, one with two encoders; heads and banks are random."""
    generator = np.random.default_rng(0)
    heads, banks = {}, {}
    for modality, vectors in embeddings(80, 1).items():
        features = Features.fit(vectors, cnn={name: name == "cnn" for name in vectors}, width=16)
        width = features.apply(vectors).shape[1]
        heads[modality] = Head(features, Linear(generator.normal(size=(width, 8)).astype(np.float32)))
        banks[modality] = heads[modality].project(vectors)[:25]
    return JointSpace(heads, banks, 7, {"method": "cca", "chosen": {"rx": 0.3}, "tried": [{"rx": 0.3, "rsum": 1.5}]})


def test_a_space_survives_its_files() -> None:
    """Through safetensors and JSON come bit-equal projections and hubness terms, facts and encoders in order."""
    made = space()
    again = JointSpace.load(load(save(made.arrays())), json.loads(json.dumps(made.config())))
    assert (again.dim, again.hubness_k, again.facts) == (made.dim, made.hubness_k, made.facts)
    assert again.config() == made.config()
    for modality, vectors in embeddings(40, 2).items():
        z = made.project(modality, vectors)
        assert np.array_equal(again.project(modality, vectors), z)
        assert again.heads[modality].encoders == tuple(vectors)
        for other in made.banks:
            assert np.array_equal(again.hubness(z, other), made.hubness(z, other))


def test_arrays_are_named_once_and_config_holds_none() -> None:
    """Each array has a name of its own and lies in order in memory; the config is plain JSON."""
    made = space()
    arrays = made.arrays()
    assert all(one.flags.c_contiguous and one.dtype == np.float32 for one in arrays.values())
    assert {name.split(".")[0] for name in arrays} == {"image", "text"}
    assert json.loads(json.dumps(made.config())) == made.config()


def test_a_projection_is_head_after_features() -> None:
    """A projected item is its features times the matrix, at unit length, whatever the order its encoders come in."""
    made = space()
    vectors = embeddings(10, 3)["image"]
    z = made.project("image", dict(reversed(vectors.items())))
    raw = made.heads["image"].features.apply(vectors) @ made.arrays()["image.map.matrix"]
    np.testing.assert_allclose(z, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    assert (z.shape, z.dtype) == ((10, made.dim), np.float32)


def test_hubness_is_towards_the_bank_of_the_queries() -> None:
    """r(g) of an item is the mean of its 7 largest dot products with the frozen bank of the asked modality."""
    made = space()
    z = made.project("text", embeddings(15, 4)["text"])
    for modality, bank in made.banks.items():
        expected = np.sort(z.astype(np.float64) @ bank.T.astype(np.float64), axis=1)[:, -7:].mean(1)
        np.testing.assert_allclose(made.hubness(z, modality), expected, atol=1e-6)
