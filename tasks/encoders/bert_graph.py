"""BERT and MPNet as an OpenVINO graph, built straight from config.json and safetensors: no torch, no transformers.

Sources: Devlin et al. 2019 (BERT); Song et al. 2020 (MPNet, relative position bias as in Raffel et al. 2020);
layer names and order of operations as in the transformers library, held to it by a test.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.openvino_runner import openvino
from tasks.encoders.protocol import Array, EncoderError, Pooling

_MPNET_PADDING = 1  # MPNet numbers its positions after this id, whatever its config.json calls padding


def knows(config: dict[str, Any]) -> bool:
    """`build` has a graph for this config.json.

    >>> knows({"model_type": "bert"}), knows({"model_type": "bert", "hidden_act": "relu"})
    (True, False)
    """
    return (
        config.get("model_type") in ("bert", "mpnet")
        and config.get("hidden_act", "gelu") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not config.get("is_decoder", False)
    )


def build(config: dict[str, Any], weights: Callable[[str], Array], pooling: Pooling) -> Any:
    """An `openvino.Model`: ids `(b, l)` int32 and lengths `(b,)` int32 → pooled vectors `(b, hidden)` float32,
    or tokens `(b, l, hidden)`.

    `config` is the parsed config.json, `weights(name)` gives a parameter as a float32 array. Tokens at and beyond an
    item's length are masked. Raises `EncoderError` for a configuration that is not known here.
    """
    openvino()  # before any other import of it: this one turns the telemetry off
    from openvino import Model, Type
    from openvino import opset13 as op

    if not knows(config):
        raise EncoderError(f"no graph for this kind of {config.get('model_type')}", "run it on torch")
    graph = _Graph(config, weights)
    ids = op.parameter([-1, -1], Type.i32, name="ids")
    lengths = op.parameter([-1], Type.i32, name="lengths")
    width = op.gather(op.shape_of(ids, "i32"), graph.number(1), graph.number(0))
    places = op.range(graph.number(0), width, graph.number(1), "i32")  # (l,)
    inside = op.less(op.unsqueeze(places, graph.axes(0)), op.unsqueeze(lengths, graph.axes(1)))  # (b, l) bool
    mask = op.convert(inside, "f32")
    bias = graph.bias(mask, places)
    x = graph.embedded(ids, places)
    for number in range(int(config["num_hidden_layers"])):
        x = graph.layer(x, bias, f"encoder.layer.{number}.")
    pooled = graph.pooled(x, mask, lengths, pooling)
    return Model([op.result(pooled)], [ids, lengths], config["model_type"])


class _Graph:
    """The parts of one model; each method adds nodes and gives the last."""

    def __init__(self, config: dict[str, Any], weights: Callable[[str], Array]) -> None:
        from openvino import opset13

        self.op: Any = opset13
        self.config = config
        self.weights = weights
        self.names = _Names(config["model_type"])
        self.positions = self._positions()
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        # shared by all layers: with copies OpenVINO compiles another bf16 graph
        self.split, self.join = self.axes(0, 0, heads, hidden // heads), self.axes(0, 0, hidden)
        self.turn = self.axes(0, 2, 1, 3)
        self.scale = opset13.constant(np.float32(1 / math.sqrt(hidden // heads)))

    def number(self, value: int) -> Any:
        """A scalar int32."""
        return self.op.constant(np.int32(value))

    def axes(self, *values: int) -> Any:
        """Axes or a shape: `(n,)` int64."""
        return self.op.constant(np.array(values, dtype=np.int64))

    def const(self, array: npt.NDArray[Any]) -> Any:
        """An array that is part of the model."""
        return self.op.constant(np.ascontiguousarray(array))

    def linear(self, x: Any, name: str) -> Any:
        """A layer `name`: x · weightᵀ + bias."""
        product = self.op.matmul(x, self.const(self.weights(f"{name}.weight")), False, True)
        return self.op.add(product, self.const(self.weights(f"{name}.bias")))

    def layer_norm(self, x: Any, name: str) -> Any:
        """Layer normalisation `name` over the last axis."""
        y = self.op.mvn(x, self.axes(-1), True, float(self.config.get("layer_norm_eps", 1e-12)), "inside_sqrt")
        scaled = self.op.multiply(y, self.const(self.weights(f"{name}.weight")))
        return self.op.add(scaled, self.const(self.weights(f"{name}.bias")))

    def _positions(self) -> Array:
        positions = self.weights(self.names.positions)
        if self.config["model_type"] == "mpnet":
            positions = positions[_MPNET_PADDING + 1 :]
        else:
            positions = positions + self.weights("embeddings.token_type_embeddings.weight")[0]
        return positions

    def embedded(self, ids: Any, places: Any) -> Any:
        """Words plus positions, normalised: `(b, l, hidden)`."""
        op = self.op
        x = op.gather(self.const(self.weights(self.names.words)), ids, self.number(0))
        x = op.add(x, op.gather(self.const(self.positions), places, self.number(0)))
        return self.layer_norm(x, "embeddings.LayerNorm")

    def bias(self, mask: Any, places: Any) -> Any:
        """What is added to attention's logits: `(b, 1, 1, l)`, for MPNet `(b, heads, l, l)`."""
        op = self.op
        # finite, so that no NaN can arise; exp of it is exactly 0
        bias = op.multiply(op.subtract(mask, op.constant(np.float32(1))), op.constant(np.float32(1e9)))
        bias = op.unsqueeze(bias, self.axes(1, 2))
        if self.config["model_type"] == "bert":
            return bias
        table = self.const(self.weights("encoder.relative_attention_bias.weight"))  # (buckets, heads)
        number = int(self.config.get("relative_attention_num_buckets", 32))
        buckets = self.const(relative_buckets(self.positions.shape[0], number))
        wanted = op.gather(op.gather(buckets, places, self.number(0)), places, self.number(1))  # (l, l)
        relative = op.transpose(op.gather(table, wanted, self.number(0)), self.axes(2, 0, 1))
        return op.add(bias, op.unsqueeze(relative, self.axes(0)))

    def layer(self, x: Any, bias: Any, name: str) -> Any:
        """One encoder layer: attention and the two linear layers, each with its residual and normalisation."""
        op, names = self.op, self.names
        q, k, v = (
            op.transpose(op.reshape(self.linear(x, name + one), self.split, True), self.turn)
            for one in names.projections
        )
        seen = op.scaled_dot_product_attention(q, k, v, bias, self.scale)
        seen = op.reshape(op.transpose(seen, self.turn), self.join, True)
        x = self.layer_norm(op.add(self.linear(seen, name + names.out), x), name + names.out_norm)
        y = op.gelu(self.linear(x, name + "intermediate.dense"), "erf")
        return self.layer_norm(op.add(self.linear(y, name + "output.dense"), x), name + "output.LayerNorm")

    def pooled(self, x: Any, mask: Any, lengths: Any, pooling: Pooling) -> Any:
        """The first token, or the mean of those inside: `(b, hidden)`; or all of them, zero outside."""
        op = self.op
        if pooling == "cls":
            return op.gather(x, self.number(0), self.number(1))
        if pooling == "mean":
            total = op.reduce_sum(op.multiply(x, op.unsqueeze(mask, self.axes(2))), self.axes(1), False)
            return op.divide(total, op.unsqueeze(op.convert(lengths, "f32"), self.axes(1)))
        if pooling == "tokens":
            return op.multiply(x, op.unsqueeze(mask, self.axes(2)))
        raise EncoderError(f"pooling {pooling!r} does not fit a text encoder", "use cls or mean")


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


def safetensors_reader(path: Path) -> Callable[[str], Array]:
    """A function that reads one parameter of a safetensors file as float32; a prefix as in task models is skipped.

    Raises `EncoderError` when there is no such file, and (from the returned function) when the parameter is missing.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise EncoderError(f"{path.parent} holds no {path.name}", "save the model there in one safetensors file")
    try:
        file: Any = safe_open(str(path), framework="numpy")
    except SafetensorError as error:
        raise EncoderError(f"{path} cannot be read ({error})", "save the model again") from error
    keys = set(file.keys())
    prefix = next((name for name in ("", "bert.", "mpnet.") if f"{name}embeddings.LayerNorm.weight" in keys), "")

    def read(name: str) -> Array:
        if prefix + name not in keys:
            raise EncoderError(f"{path} holds no parameter {prefix + name}", "save the whole model")
        if file.get_slice(prefix + name).get_dtype() == "BF16":
            return _bfloat16(path, prefix + name)
        return np.asarray(file.get_tensor(prefix + name), dtype=np.float32)

    return read


def _bfloat16(path: Path, name: str) -> Array:
    """In numpy there is no bfloat16: its two bytes are the upper half of a float32. Format: safetensors' README."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        about = json.loads(file.read(size))[name]
        start, end = about["data_offsets"]
        file.seek(8 + size + start)
        upper = np.frombuffer(file.read(end - start), "<u2").astype(np.uint32)
    return (upper << 16).view(np.float32).reshape(about["shape"])
