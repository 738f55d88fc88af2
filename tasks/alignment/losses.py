"""Losses of paired unit vectors `a` and `b` (n, dim); row i of both is a pair, all other rows are negatives.

Sources: van den Oord et al. 2018 and Radford et al. 2021 (InfoNCE); Zhai et al. 2023 (SigLIP); Faghri et al. 2018
(triplet with the hardest negative); Hinton et al. 2015 and Andonian et al. 2022 (soft targets).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_MARGIN = 0.2
_SOFT = 0.3
_TEMPERATURE = 0.05


def siglip(a: Tensor, b: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:
    """Each of the n × n pairs is told apart by itself: -log σ(±(scale·a·b + bias)), summed over a row, mean of rows.

    >>> one = torch.eye(2)
    >>> round(float(siglip(one, one, torch.tensor(2.0).log(), torch.tensor(-1.0))), 4)
    0.6265
    """
    logits = log_scale.exp() * a @ b.T + bias
    told: Tensor = _Softplus.apply(logits)  # -log σ(-x), from which x is taken off where -log σ(x) is asked for
    return (told.sum() - logits.trace()) / len(a)


def infonce(a: Tensor, b: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001 - one signature
    """Cross-entropy of finding one's partner among the n, mean of both ways.

    >>> one = torch.eye(2)
    >>> round(float(infonce(one, one, torch.tensor(0.0), torch.tensor(0.0))), 4)
    0.3133
    """
    logits = log_scale.exp() * a @ b.T
    own = torch.arange(len(a))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def triplet(a: Tensor, b: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001 - one signature
    """A pair must lead its hardest negative in the batch by a margin of .2, both ways.

    >>> one = torch.eye(2)
    >>> float(triplet(one, one, torch.tensor(0.0), torch.tensor(0.0)))
    0.0
    """
    s = a @ b.T
    own = s.diagonal()
    others = s - 4 * torch.eye(len(a), dtype=a.dtype)
    ways = (others.max(1).values, others.max(0).values)
    return sum((F.relu(_MARGIN + way - own).mean() for way in ways), torch.zeros(()))


def soft(a: Tensor, b: Tensor, log_scale: Tensor, bias: Tensor) -> Tensor:  # noqa: ARG001 - one signature
    """InfoNCE whose targets keep .7 on the partner and spread .3 over the others by their similarity in each modality.

    The item itself takes no part in the spreading: at this temperature it would take nearly all of it.
    """
    logits = log_scale.exp() * a @ b.T
    with torch.no_grad():
        near = ((a @ a.T + b @ b.T) / (2 * _TEMPERATURE)).fill_diagonal_(-torch.inf)
        target = (1 - _SOFT) * torch.eye(len(a), dtype=a.dtype) + _SOFT * near.softmax(1)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class _Softplus(torch.autograd.Function):
    """log(1 + eˣ) and its derivative σ(x), twice as fast as torch's on a CPU, where log1p is slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp_min(0) + (1 + x.abs().neg().exp()).log()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return gradients[0] * x.sigmoid()


LOSSES: dict[str, tuple[Loss, float, float]] = {
    "siglip": (siglip, 20.0, -10.0),
    "infonce": (infonce, 20.0, 0.0),
    "triplet": (triplet, 1.0, 0.0),
    "soft": (soft, 20.0, 0.0),
}
"""Each loss with the scale and the bias that it starts from."""
