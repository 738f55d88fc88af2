from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from tasks.alignment.maps import Attention, Gated, Linear, Map, Named, Relative, Residual, load_map

draw = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    """Random float32 numbers."""
    return draw.normal(size=shape).astype(np.float32)


X = random(9, 6)
# behind six features three tokens and two, five wide; items have fewer of them, and one has none
T = [random(9, 3, 5), random(9, 2, 5)]
T[0][2:5, 2] = T[0][5:, 1:] = T[1][:4, 1] = 0
for part in T:
    part[8] = 0
WITH_TOKENS = np.concatenate([X, *(part.reshape(9, -1) for part in T)], 1)
MAPS: dict[str, Map] = {
    "linear": Linear(random(6, 4)),
    "residual": Residual(random(6, 4), random(4, 4), random(4, 5), random(5), random(5, 4)),
    "relative": Relative(random(7, 6), 3, 2.0),
    "gated": Gated(random(2, 6, 4), random(6, 2), random(2)),
    "attention": Attention(
        random(6, 4), random(4, 3), random(2, 4, 10), random(2, 10), random(2, 10, 3), counts=(3, 2), heads=2
    ),
    "named": Named(random(6, 4), np.full(7, 1 / 7, np.float32), random(7, 4), np.array([0.3], np.float32)),
}
WITH_CLASSES = np.concatenate([X, random(9, 7)], 1)


def inputs(kind: str) -> np.ndarray:
    """What a map of a kind takes."""
    return {"attention": WITH_TOKENS, "named": WITH_CLASSES}.get(kind, X)


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
            case Attention():
                out.append(attended(one, item))
            case Named(matrix, shares, names, weight):
                c, likely = item[:6] @ matrix, np.exp(item[6:])
                said = sum((p - q) * name for p, q, name in zip(likely / likely.sum(), shares, names, strict=True))
                out.append(c / np.linalg.norm(c) + weight[0] * said / np.linalg.norm(said))
    return np.array(out)


def attended(one: Attention, item: np.ndarray) -> np.ndarray:
    """For each encoder, each query and each token that is not zero: its share of the answer, written out."""
    c = item[:6] @ one.matrix / np.linalg.norm(item[:6] @ one.matrix)
    z, place = c @ one.line, 6
    for e, count in enumerate(one.counts):
        tokens = [token for token in item[place : place + 5 * count].reshape(count, 5) if any(token)]
        place += 5 * count
        for head in range(one.heads if tokens else 0):
            own = slice(5 * head, 5 * head + 5)
            query = c @ one.queries[e][:, own] + one.bias[e][own]
            likely = np.exp([query @ token / np.sqrt(5) for token in tokens])
            mean = sum(share * token for share, token in zip(likely / likely.sum(), tokens, strict=True))
            z = z + mean @ one.out[e][own]
    return z


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_does_what_it_says(kind: str) -> None:
    """Every kind agrees with its definition by plain loops, in its stated width and dtype."""
    one = MAPS[kind]
    z = one.apply(inputs(kind))
    np.testing.assert_allclose(z, by_loops(one, inputs(kind)), rtol=1e-4, atol=1e-5)
    assert (z.shape, z.dtype) == ((9, one.dim), np.float32)


@pytest.mark.parametrize("kind", MAPS)
def test_a_map_survives_its_file(kind: str) -> None:
    """Through safetensors comes a map of the same kind with bit-equal results."""
    one = MAPS[kind]
    again = load_map(one.kind, load(save(one.arrays())))
    assert type(again) is type(one)
    assert np.array_equal(again.apply(inputs(kind)), one.apply(inputs(kind)))


def test_an_unknown_kind_is_named() -> None:
    """A head of a later version is refused with the kinds that are known."""
    with pytest.raises(ValueError, match=r"kind 'magic' is not known; known: linear"):
        load_map("magic", {})
