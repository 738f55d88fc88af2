from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from tasks.alignment.maps import Gated, Linear, Map, Relative, Residual, load_map

draw = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    """Random float32 numbers."""
    return draw.normal(size=shape).astype(np.float32)


X = random(9, 6)
MAPS: dict[str, Map] = {
    "linear": Linear(random(6, 4)),
    "residual": Residual(random(6, 4), random(4, 4), random(4, 5), random(5), random(5, 4)),
    "relative": Relative(random(7, 6), 3, 2.0),
    "gated": Gated(random(2, 6, 4), random(6, 2), random(2)),
}


def by_loops(one: Map, x: np.ndarray) -> np.ndarray:
    """What a map says in its docstring, item by item in float64."""
    out = []
    for item in x.astype(np.float64):
        match one:
            case Linear(matrix):
                out.append(item @ matrix)
            case Residual(matrix, line, up, bias, down):
                c = item @ matrix / np.linalg.norm(item @ matrix)
                out.append(c @ line + np.array([max(float(h), 0.0) for h in c @ up + bias]) @ down)
            case Relative(anchors, k, power):
                near = [max(float(a @ item / np.linalg.norm(item)), 0.0) for a in anchors]
                least = sorted(near)[-k]
                out.append([s**power if s >= least else 0.0 for s in near])
            case Gated(matrices, gates, bias):
                weights = np.exp(item @ gates + bias)
                out.append(sum(w * (item @ a) for w, a in zip(weights / weights.sum(), matrices, strict=True)))
    return np.array(out)


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_does_what_it_says(kind: str) -> None:
    """Every kind agrees with its definition by plain loops, in its stated width and dtype."""
    one = MAPS[kind]
    z = one.apply(X)
    np.testing.assert_allclose(z, by_loops(one, X), rtol=1e-4, atol=1e-5)
    assert (z.shape, z.dtype) == ((9, one.dim), np.float32)


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_survives_its_file(kind: str) -> None:
    """Through safetensors comes a map of the same kind with bit-equal results."""
    one = MAPS[kind]
    again = load_map(one.kind, load(save(one.arrays())))
    assert type(again) is type(one)
    assert np.array_equal(again.apply(X), one.apply(X))


def test_an_unknown_kind_is_named() -> None:
    """A head of a later version is refused with the kinds that are known."""
    with pytest.raises(ValueError, match=r"kind 'magic' is not known; known: linear"):
        load_map("magic", {})
