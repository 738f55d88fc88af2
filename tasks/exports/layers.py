"""A head as a chain of plain layers, which other libraries know: products with a bias, relu, unit length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.alignment.maps import Linear, Residual
from tasks.alignment.space import Head
from tasks.retrieval.similarity import normalise

Array = npt.NDArray[np.float32]


class Layer(NamedTuple):
    """x·weight + bias with weight (in, out), then `relu` if so; the result at `unit` length if so."""

    weight: Array
    bias: Array
    relu: bool = False
    unit: bool = False


def layers_of(head: Head) -> list[Layer]:
    """The layers that take an encoder's unit vectors to those of the joint space.

    Raises `ValueError` with the reason where a head is no such chain.
    """
    maps = list(head.features.maps.items())
    if len(head.encoders) != 1:
        named = ", ".join(head.encoders)
        raise ValueError(f"it joins {len(head.encoders)} encoders ({named}), and a chain of layers has one beginning")
    name, one = maps[0]
    if one.cnn:
        raise ValueError(f"{name} is a CNN: the signed square root of its activations is no plain layer")
    width = len(one.mean)
    centre = Layer(np.eye(width, dtype=np.float32), -one.mean, unit=True)
    turn: Array = one.axes @ head.features.rotation
    shift: Array = -head.features.mean @ head.features.rotation
    found = head.map
    if isinstance(found, Linear):
        return [centre, _product(turn, shift, found.matrix)]
    if isinstance(found, Residual):
        first = _product(turn, shift, found.matrix)
        same = np.eye(found.matrix.shape[1], dtype=np.float32)
        # c = relu(c) − relu(−c): so what passes by the hidden layer passes through it
        beside = np.concatenate([np.zeros(2 * len(same), np.float32), found.bias])
        wide = Layer(np.concatenate([same, -same, found.up], 1), beside, relu=True)
        down = np.concatenate([found.line, -found.line, found.down])
        return [centre, first, wide, Layer(down, np.zeros(found.dim, np.float32), unit=True)]
    raise ValueError(f"a head of the kind {found.kind!r} is no chain of plain layers")


def _product(turn: Array, shift: Array, matrix: Array) -> Layer:
    """(x·turn + shift)·matrix at unit length, as one layer."""
    return Layer(np.asarray(turn @ matrix, np.float32), np.asarray(shift @ matrix, np.float32), unit=True)


def apply(layers: Sequence[Layer], x: Array) -> Array:
    """What the layers make of vectors (n, d).

    >>> layer = Layer(np.eye(2, dtype=np.float32), np.ones(2, np.float32), unit=True)
    >>> apply([layer], np.array([[2.0, 3.0]], np.float32)).round(2).tolist() == np.float32([[0.6, 0.8]]).tolist()
    True
    """
    for one in layers:
        x = np.asarray(x @ one.weight + one.bias, np.float32)
        x = np.maximum(x, 0) if one.relu else x
        x = normalise(x) if one.unit else x
    return x
