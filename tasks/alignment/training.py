"""Heads trained by gradient: from a closed form's joint space, where they begin as the identity, or from scratch.

Source of the mix-up: Vouitsis et al. 2024 (FuseMix); of the schedule: Smith and Topin 2019 (one cycle).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import log

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tasks.alignment.losses import LOSSES
from tasks.alignment.maps import Attention, Gated, Linear, Map, Residual
from tasks.alignment.problem import Maps, Problem
from tasks.alignment.tokens import Half

Array = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
_HEADS = 4
"""Queries of an attention head for each encoder."""
_NONE = -1e9
"""Logit of a token that is none."""


def train(problem: Problem, pairs: Indices, start: tuple[Array, Array] | None, steps: int) -> Maps:
    """Heads after `steps` of the plan's loss on `pairs` (m, 2).

    `start` are the matrices (width, dim) of a closed form; without it the heads begin at random. Each batch holds one
    pair of each of its left items, drawn anew each time: other pairs of the same item would be false negatives.
    Deterministic under the plan's seed: it computes on one thread, which at these sizes loses little.
    """
    plan, how = problem.plan, problem.plan.heads
    with threads(1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        sides = [_side(problem, side, start, how.shape, how.dropout) for side in (0, 1)]
        loss, scale, bias = LOSSES[how.loss]
        log_scale, offset = nn.Parameter(torch.tensor(log(scale))), nn.Parameter(torch.tensor(bias))
        weights = [weight for side in sides for weight in side.parameters()]
        groups = [{"params": weights, "weight_decay": how.decay}, {"params": [log_scale, offset], "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=how.rate, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.rate, total_steps=max(steps, 2), pct_start=0.1)
        for left, right, mix in batches(pairs, how.batch, steps, plan.seed, mixup=how.mixup):
            a, b = (normalize(side(rows, mix)) for side, rows in zip(sides, (left, right), strict=True))
            optimiser.zero_grad()
            loss(a, b, log_scale, offset).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return sides[0].finished(), sides[1].finished()


def batches(
    pairs: Indices, batch: int, steps: int, seed: int, *, mixup: bool
) -> Iterator[tuple[Tensor, Tensor, float | None]]:
    """Rows of both sides, one pair a left item drawn anew in each of `steps` batches, and the share of the mix-up."""
    draw = np.random.default_rng(seed)
    sorted_pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    _, first, count = np.unique(sorted_pairs[:, 0], return_index=True, return_counts=True)
    batch = min(batch, len(first))
    epoch, place = draw.permutation(len(first)), 0
    for _ in range(steps):
        if place + batch > len(epoch):
            epoch, place = draw.permutation(len(first)), 0
        some = epoch[place : place + batch]
        place += batch
        chosen = sorted_pairs[first[some] + (draw.random(len(some)) * count[some]).astype(np.int64)]
        yield torch.from_numpy(chosen[:, 0]), torch.from_numpy(chosen[:, 1]), float(draw.beta(1, 1)) if mixup else None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute on so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Side(nn.Module):
    """One side's head at work: rows of its features → (batch, dim)."""

    def __init__(self, x: Tensor, dropout: float) -> None:
        super().__init__()
        self.x = x
        self.dropout = nn.Dropout(dropout)

    def inputs(self, rows: Tensor, mix: float | None) -> Tensor:
        """The rows; with a share each is mixed with the row behind it, on both sides alike."""
        x = self.x[rows]
        mixed: Tensor = self.dropout(x if mix is None else mix * x + (1 - mix) * x.roll(1, 0))
        return mixed

    def finished(self) -> Map:
        """The head as a map."""
        raise NotImplementedError


class _LinearSide(_Side):
    def __init__(self, x: Array, matrix: Array | None, dim: int, dropout: float) -> None:
        start = x if matrix is None else x @ matrix
        super().__init__(normalize(torch.from_numpy(start)), dropout)
        self._matrix = matrix
        width = self.x.shape[1]
        first = torch.eye(width) if matrix is not None else nn.init.xavier_uniform_(torch.empty(width, dim))
        self.line = nn.Parameter(first)

    def forward(self, rows: Tensor, mix: float | None) -> Tensor:
        return self.inputs(rows, mix) @ self.line

    def finished(self) -> Map:
        line = self.line.detach().numpy()
        return Linear(line if self._matrix is None else self._matrix @ line)


class _ResidualSide(_LinearSide):
    def __init__(self, x: Array, matrix: Array | None, dim: int, dropout: float) -> None:
        super().__init__(x, matrix, dim, dropout)
        width, dim = self.line.shape
        self.up = nn.Parameter(nn.init.xavier_uniform_(torch.empty(width, dim)))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.down = nn.Parameter(torch.zeros(dim, dim))

    def forward(self, rows: Tensor, mix: float | None) -> Tensor:
        x = self.inputs(rows, mix)
        return x @ self.line + torch.relu(x @ self.up + self.bias) @ self.down

    def finished(self) -> Map:
        matrix = np.eye(self.x.shape[1], dtype=np.float32) if self._matrix is None else self._matrix
        return Residual(matrix, *(one.detach().numpy() for one in (self.line, self.up, self.bias, self.down)))


class _GatedSide(_Side):
    """One expert an encoder, its part of the start; the gates begin alike, so that the sum is the start."""

    def __init__(self, x: Array, matrix: Array, blocks: list[Array], dropout: float) -> None:
        super().__init__(torch.from_numpy(x), dropout)
        self._experts = torch.from_numpy(np.stack([len(blocks) * (one.T @ (one @ matrix)) for one in blocks]))
        self.line = nn.Parameter(torch.eye(matrix.shape[1]))
        self.gates = nn.Parameter(torch.zeros(x.shape[1], len(blocks)))
        self.bias = nn.Parameter(torch.zeros(len(blocks)))

    def forward(self, rows: Tensor, mix: float | None) -> Tensor:
        x = self.inputs(rows, mix)
        shares = (x @ self.gates + self.bias).softmax(1)
        mixed = sum(shares[:, e, None] * (x @ one) for e, one in enumerate(self._experts))
        return torch.as_tensor(mixed) @ self.line

    def finished(self) -> Map:
        matrices = self._experts @ self.line.detach()
        return Gated(matrices.numpy(), self.gates.detach().numpy(), self.bias.detach().numpy())


class _AttentionSide(_LinearSide):
    """A linear head, and for each encoder a few queries among its tokens, whose answers begin at weight zero."""

    def __init__(self, x: Array, matrix: Array, tokens: list[Half], dropout: float) -> None:
        super().__init__(x, matrix, matrix.shape[1], dropout)
        self._tokens = [torch.from_numpy(one) for one in tokens]
        size, (width, dim) = tokens[0].shape[2], self.line.shape
        self.queries = nn.Parameter(nn.init.xavier_uniform_(torch.empty(len(tokens), width, _HEADS * size)))
        self.bias = nn.Parameter(torch.zeros(len(tokens), _HEADS * size))
        self.out = nn.Parameter(torch.zeros(len(tokens), _HEADS * size, dim))

    def forward(self, rows: Tensor, mix: float | None) -> Tensor:
        c = self.inputs(rows, mix)
        z = c @ self.line
        for e, tokens in enumerate(self._tokens):
            t = tokens[rows].float()
            t = t if mix is None else mix * t + (1 - mix) * t.roll(1, 0)
            q = (c @ self.queries[e] + self.bias[e]).view(len(rows), _HEADS, -1)
            logits = q @ t.transpose(1, 2) / t.shape[2] ** 0.5
            shares = logits.masked_fill(~t.any(2)[:, None], _NONE).softmax(2)
            z = z + self.dropout((shares @ t).flatten(1)) @ self.out[e]
        return z

    def finished(self) -> Map:
        assert self._matrix is not None
        line, queries, bias, out = (one.detach().numpy() for one in (self.line, self.queries, self.bias, self.out))
        counts = tuple(one.shape[1] for one in self._tokens)
        return Attention(self._matrix, line, queries, bias, out, counts, _HEADS)


def _side(problem: Problem, side: int, start: tuple[Array, Array] | None, shape: str, dropout: float) -> _Side:
    x, matrix, blocks = (problem.x, problem.y)[side], None if start is None else start[side], problem.blocks[side]
    if shape == "gated" and matrix is not None and len(blocks) > 1:
        return _GatedSide(x, matrix, blocks, dropout)
    if shape == "attention" and matrix is not None and problem.tokens[side]:
        return _AttentionSide(x, matrix, problem.tokens[side], dropout)
    made = _ResidualSide if shape == "residual" else _LinearSide
    return made(x, matrix, -(-problem.plan.dim // 8) * 8, dropout)
