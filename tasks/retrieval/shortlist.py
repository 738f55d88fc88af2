"""Exact nearest neighbours of large problems: a shortlist by bf16 products, then fp32 scores, then a proof.

bf16 products cost an eighth of fp32 ones where the processor has them. Rounding can hide a neighbour, so each row is
held against a bound of the rounding: where a row outside the shortlist could still belong to the best, the row is done
again with a longer shortlist, and at last in fp32 throughout. What comes out is the exact answer, not an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.runtime import cpu_count, has_bf16, installed
from tasks.retrieval.knn import GROUP, Array, Indices, blocks, exact_top_k, top_k

Bits = npt.NDArray[np.int16]
Keys = npt.NDArray[np.int64]

CELLS = 2**24
"""bf16 scores held at once: 32 MB."""

_LARGE = 2**27  # scores from which bf16 is worth the import of torch
_COLUMNS = 2**16  # of the gallery at once, while all queries pass; their numbers fill 16 bits
_LONGER = 8  # how many times the shortlist grows for the rows that it was too short for
_ROWS = 128  # rescored at once
_LOWEST = -(2**15)
_PLACE = 40  # bits of a key that hold the row of the gallery; the score's bits stand above them


def fast_top_k(queries: Array, gallery: Array, k: int, *, cells: int = CELLS // 2) -> tuple[Indices, Array]:
    """As `exact_top_k`, by bf16 shortlists where the problem is large and the processor multiplies bf16.

    `cells` bounds the fp32 scores that are held at once; of bf16 ones it is twice as many.
    """
    if len(queries) * len(gallery) < _LARGE or not has_bf16() or not installed("torch"):
        return exact_top_k(queries, gallery, k, cells=cells)
    return bf16_top_k(queries, gallery, k, cells=2 * cells)


def bf16_top_k(queries: Array, gallery: Array, k: int, *, cells: int = CELLS) -> tuple[Indices, Array]:
    """The `k` gallery rows (m, d) with the largest dot product for each query (n, d): indices and scores, (n, k).

    The best first, ties by the lower row; equal to `exact_top_k` but for the order of sums in fp32. Needs torch.
    Beside its arguments and results it holds `cells` bf16 scores and a shortlist of 8·max(32, 2·k) bytes a query.

    >>> x = np.eye(3, dtype=np.float32)
    >>> bf16_top_k(x, x, 1)[0].tolist()
    [[0], [1], [2]]
    """
    queries, gallery = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(gallery, np.float32)
    k = min(k, len(gallery))
    indices = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    left = np.arange(len(queries))
    short = max(32, 2 * k)
    for size in (short, _LONGER * short):
        if not len(left) or not k or size * GROUP >= len(gallery):
            break
        asked = queries if len(left) == len(queries) else queries[left]
        keys, norm, loss = _shortlist(asked, gallery, size, cells)
        parts = [*blocks(len(left), 1, _ROWS)]
        with ThreadPoolExecutor(cpu_count()) as pool:
            each = [asked[part] for part in parts], repeat(gallery), [keys[part] for part in parts]
            done = pool.map(_rescored, *each, repeat(k), repeat(norm), repeat(loss))
            sure = np.empty(len(left), np.bool_)
            for part, found in zip(parts, done, strict=True):
                indices[left[part]], scores[left[part]], sure[part] = found
        left = left[~sure]
    if len(left):
        indices[left], scores[left] = exact_top_k(queries[left], gallery, k)
    return indices, scores


def bf16_bits(x: Array) -> Bits:
    """Float32 rounded to bf16, ties to even, as its bits; those of positive ones, as whole numbers, keep order.

    >>> (bf16_bits(np.array([1.0, 1.001, 1.01], np.float32)).astype(np.int32) << 16).view(np.float32).tolist()
    [1.0, 1.0, 1.0078125]
    """
    bits = x.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16).view(np.int16)


def _shortlist(queries: Array, gallery: Array, size: int, cells: int) -> tuple[Keys, float, float]:
    """Keys (n, size) of each query's best columns by bf16 score; the largest norm of a gallery row and of its rounding.

    A key is the score's bits above the column's number counted down: the greatest keys are the best scores, of equal
    ones the lowest columns. Scores below zero are not in order, and `_rescored` trusts none of them.
    """
    import torch

    keys = np.full((len(queries), size), _LOWEST << _PLACE, np.int64)
    norm = loss = 0.0
    threads, before = cpu_count(), torch.get_num_threads()
    # a thread multiplies and selects by itself: selection is numpy, and runs on one core
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for columns in blocks(len(gallery), 1, _COLUMNS):
            block, most = gallery[columns], -(-(columns.stop - columns.start) // GROUP) * GROUP
            bits = np.zeros((most, gallery.shape[1]), np.int16)
            bits[: len(block)] = bf16_bits(block)
            norm = float(np.maximum(norm, np.linalg.norm(block, axis=1).max()))
            loss = float(np.maximum(loss, np.linalg.norm(block - _float(bits[: len(block)]), axis=1).max()))
            parts = [*blocks(len(queries), most, cells // threads)]
            work = [
                pool.submit(_look, keys, queries, parts[i::threads], bits, columns)
                for i in range(min(threads, len(parts)))
            ]
            for one in work:
                one.result()
    torch.set_num_threads(before)  # the setting of a new thread becomes that of the process
    return keys, norm, loss


def _look(keys: Keys, queries: Array, parts: Sequence[slice], bits: Bits, columns: slice) -> None:
    """Let these `columns`, their vectors given as `bits` and filled up, into the keys of some queries."""
    import torch

    right = torch.from_numpy(bits).view(torch.bfloat16).T
    scores = torch.empty((parts[0].stop - parts[0].start, len(bits)), dtype=torch.bfloat16)
    for part in parts:
        left = torch.from_numpy(bf16_bits(queries[part])).view(torch.bfloat16)
        out = torch.mm(left, right, out=scores[: len(left)]).view(torch.int16).numpy()
        out[:, columns.stop - columns.start :] = _LOWEST
        _keep_best(keys[part], out, columns.start)


def _keep_best(keys: Keys, scores: Bits, start: int) -> None:
    """Let the best of a block's scores (n, m) into the keys (n, size), in place.

    The best columns lie in the groups with the best maxima, and only these are looked into. Group g holds the columns
    g, g + groups, g + 2·groups …, so that the maxima are taken along whole rows.
    """
    size, (n, m) = keys.shape[1], scores.shape
    groups = m // GROUP
    packed = scores.reshape(n, GROUP, groups).max(1).astype(np.int32)
    packed <<= 16
    packed |= np.arange(groups, dtype=np.int32)
    chosen = _greatest(packed, size) & 0xFFFF
    columns = (chosen[:, :, None] + np.arange(0, m, groups)).reshape(n, -1)
    values = scores.ravel().take(columns + np.arange(0, n * m, m)[:, None]).astype(np.int32)
    found = _greatest((values << 16) | (0xFFFF - columns).astype(np.int32), size).astype(np.int64)
    new = (found >> 16 << _PLACE) | (2**_PLACE - 1 - start - 0xFFFF + (found & 0xFFFF))
    keys[:] = _greatest(np.concatenate([keys, new], axis=1), size)


def _greatest(x: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """The `size` greatest of each row of `x` (n, m), in any order; all where there are fewer. Reorders `x`."""
    if size < x.shape[1]:
        x.partition(-size, axis=1)
    return x[:, -size:]


def _rescored(
    queries: Array, gallery: Array, keys: Keys, k: int, norm: float, loss: float
) -> tuple[Indices, Array, npt.NDArray[np.bool_]]:
    """The best `k` of the shortlists by fp32 scores, and for each query whether no other column can belong to them.

    With q̃ and g̃ the rounded vectors, |q·g − q̃·g̃| ≤ |q − q̃|·|g| + |q̃|·|g − g̃|; the bf16 score is a further 2⁻⁸ of
    q̃·g̃ off, and sums of d products in fp32 by d·2⁻²⁴·|q|·|g|. A column outside has a bf16 score of at most the
    worst in the shortlist.
    """
    columns = np.sort(2**_PLACE - 1 - (keys & (2**_PLACE - 1)), axis=1)
    candidates = np.take(gallery, columns.ravel(), axis=0).reshape(*columns.shape, -1)
    order, scores = top_k(np.matmul(candidates, queries[:, :, None])[:, :, 0], k)
    worst = (keys.min(1) >> _PLACE).astype(np.int32)
    bits = bf16_bits(queries)
    rounded = _float(bits)
    lost, length = (np.linalg.norm(x, axis=1) for x in (queries - rounded, rounded))
    exact = 2 * queries.shape[1] * 2.0**-24 * (length + lost) * (norm + loss)
    bound = _float(worst.astype(np.int16)) / (1 - 2.0**-8) + lost * norm + length * loss + exact
    return np.take_along_axis(columns, order, 1), scores, (worst > 0) & (scores[:, -1] > bound)


def _float(bits: Bits) -> Array:
    return (bits.astype(np.int32) << 16).view(np.float32)
