"""BERT and MPNet as an OpenVINO graph, built straight from config.json and safetensors: no torch, no transformers.

Sources: Devlin et al. 2019 (BERT); Song et al. 2020 (MPNet, relative position bias as in Raffel et al. 2020);
layer names and order of operations as in the transformers library, held to it by a test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.protocol import Array, EncoderError, Pooling

MODEL_TYPES = ("bert", "mpnet")


def build(config: dict[str, Any], weights: Callable[[str], Array], pooling: Pooling) -> Any:
    """An `openvino.Model`: ids `(b, l)` int32 and lengths `(b,)` int32 → pooled vectors `(b, hidden)` float32.

    `config` is the parsed config.json, `weights(name)` gives a parameter as a float32 array. Tokens at and beyond an
    item's length are masked. Raises `EncoderError` for a model type or activation this graph does not know.
    """
    from openvino import Model, Type
    from openvino import opset13 as op

    kind = config.get("model_type")
    if kind not in MODEL_TYPES or config.get("hidden_act", "gelu") != "gelu":
        raise EncoderError(f"no graph for model type {kind!r} with {config.get('hidden_act')!r}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise EncoderError("no graph for relative position embeddings in BERT")
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    epsilon = float(config.get("layer_norm_eps", 1e-12))
    longest = int(config["max_position_embeddings"])
    names = _Names(kind)

    def const(array: npt.NDArray[Any]) -> Any:
        return op.constant(np.ascontiguousarray(array))

    def ints(*values: int) -> Any:
        return op.constant(np.array(values, dtype=np.int64))

    def linear(x: Any, name: str) -> Any:
        return op.add(op.matmul(x, const(weights(f"{name}.weight")), False, True), const(weights(f"{name}.bias")))

    def layer_norm(x: Any, name: str) -> Any:
        y = op.mvn(x, ints(-1), True, epsilon, "inside_sqrt")
        return op.add(op.multiply(y, const(weights(f"{name}.weight"))), const(weights(f"{name}.bias")))

    ids = op.parameter([-1, -1], Type.i32, name="ids")
    lengths = op.parameter([-1], Type.i32, name="lengths")
    width = op.gather(op.shape_of(ids, "i32"), op.constant(np.int32(1)), op.constant(np.int32(0)))
    places = op.range(op.constant(np.int32(0)), width, op.constant(np.int32(1)), "i32")  # (l,)
    inside = op.less(op.unsqueeze(places, ints(0)), op.unsqueeze(lengths, ints(1)))  # (b, l) bool
    mask = op.convert(inside, "f32")
    # finite, so that no NaN can arise; exp of it is exactly 0
    bias = op.multiply(op.subtract(mask, op.constant(np.float32(1))), op.constant(np.float32(1e9)))
    bias = op.unsqueeze(bias, ints(1, 2))  # (b, 1, 1, l)

    positions = weights(names.positions)
    if kind == "bert":
        positions = positions + weights("embeddings.token_type_embeddings.weight")[0]
    else:
        # MPNet numbers its positions after the padding id
        positions = positions[int(config.get("pad_token_id", 1)) + 1 :]
        longest = positions.shape[0]
        bias = op.add(bias, _relative_bias(op, const, config, weights, places, longest))
    x = op.gather(const(weights(names.words)), ids, op.constant(np.int32(0)))
    x = op.add(x, op.gather(const(positions), places, op.constant(np.int32(0))))
    x = layer_norm(x, "embeddings.LayerNorm")

    size = hidden // heads
    split, join, turn = ints(0, 0, heads, size), ints(0, 0, hidden), ints(0, 2, 1, 3)
    scale = op.constant(np.float32(1 / math.sqrt(size)))
    for number in range(int(config["num_hidden_layers"])):
        layer = f"encoder.layer.{number}."
        q, k, v = (op.transpose(op.reshape(linear(x, layer + name), split, True), turn) for name in names.projections)
        seen = op.scaled_dot_product_attention(q, k, v, bias, scale)
        seen = op.reshape(op.transpose(seen, turn), join, True)
        x = layer_norm(op.add(linear(seen, layer + names.out), x), layer + names.out_norm)
        y = op.gelu(linear(x, layer + "intermediate.dense"), "erf")
        x = layer_norm(op.add(linear(y, layer + "output.dense"), x), layer + "output.LayerNorm")

    if pooling == "cls":
        pooled = op.gather(x, op.constant(np.int32(0)), op.constant(np.int32(1)))
    elif pooling == "mean":
        total = op.reduce_sum(op.multiply(x, op.unsqueeze(mask, ints(2))), ints(1), False)
        pooled = op.divide(total, op.unsqueeze(op.convert(lengths, "f32"), ints(1)))
    else:
        raise EncoderError(f"pooling {pooling!r} does not fit a text encoder", "use cls or mean")
    return Model([op.result(pooled)], [ids, lengths], kind)


class _Names:
    """How the two families name the same parameters."""

    def __init__(self, kind: str) -> None:
        self.words = "embeddings.word_embeddings.weight"
        self.positions = "embeddings.position_embeddings.weight"
        if kind == "bert":
            self.projections = tuple(f"attention.self.{name}" for name in ("query", "key", "value"))
            self.out, self.out_norm = "attention.output.dense", "attention.output.LayerNorm"
        else:
            self.projections = tuple(f"attention.attn.{name}" for name in ("q", "k", "v"))
            self.out, self.out_norm = "attention.attn.o", "attention.LayerNorm"


def relative_buckets(longest: int, buckets: int, farthest: int = 128) -> npt.NDArray[np.int32]:
    """Bucket of each pair of positions, `(longest, longest)` int32 in `[0, buckets)`: fine near, logarithmic far.

    Row is the query's position, column the key's. Source: Raffel et al. 2020, as used by MPNet.

    >>> relative_buckets(3, 32).tolist()
    [[0, 17, 18], [1, 0, 17], [2, 1, 0]]
    """
    place = np.arange(longest)
    away = place[:, None] - place[None, :]
    half = buckets // 2
    result = np.where(away < 0, half, 0)
    away = np.abs(away)
    exact = half // 2
    with np.errstate(divide="ignore"):
        far = np.log(away.astype(np.float32) / exact) / math.log(farthest / exact) * (half - exact)
    far = np.minimum(exact + np.where(away < exact, 0, far).astype(np.int64), half - 1)
    return (result + np.where(away < exact, away, far)).astype(np.int32)


def _relative_bias(
    op: Any,
    const: Callable[[npt.NDArray[Any]], Any],
    config: dict[str, Any],
    weights: Callable[[str], Array],
    places: Any,
    longest: int,
) -> Any:
    """MPNet's attention bias `(1, heads, l, l)`, one table shared by all layers."""
    table = const(weights("encoder.relative_attention_bias.weight"))  # (buckets, heads)
    buckets = relative_buckets(longest, int(config.get("relative_attention_num_buckets", 32)))
    zero, one = op.constant(np.int32(0)), op.constant(np.int32(1))
    wanted = op.gather(op.gather(const(buckets), places, zero), places, one)  # (l, l)
    bias = op.transpose(op.gather(table, wanted, zero), op.constant(np.array([2, 0, 1], dtype=np.int64)))
    return op.unsqueeze(bias, op.constant(np.array([0], dtype=np.int64)))


def safetensors_reader(path: Path) -> Callable[[str], Array]:
    """A function that reads one parameter of a safetensors file as float32; a prefix as in task models is skipped.

    Raises `EncoderError` (from the returned function) when the parameter is missing.
    """
    from safetensors import safe_open

    file = safe_open(str(path), framework="numpy")
    keys = set(file.keys())
    prefix = next((name for name in ("", "bert.", "mpnet.") if f"{name}embeddings.LayerNorm.weight" in keys), "")

    def read(name: str) -> Array:
        if prefix + name not in keys:
            raise EncoderError(f"{path} holds no parameter {prefix + name}")
        return np.asarray(file.get_tensor(prefix + name), dtype=np.float32)

    return read
