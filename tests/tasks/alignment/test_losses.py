from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tasks.alignment.losses import LOSSES, infonce, siglip, soft, triplet

N = 6


def unit(seed: int) -> torch.Tensor:
    """Six random unit vectors."""
    z = np.random.default_rng(seed).normal(size=(N, 4))
    return torch.tensor(z / np.linalg.norm(z, axis=1, keepdims=True))


A, B = unit(1), unit(2)
SCALE, BIAS = 7.0, -2.0
S = (A @ B.T).numpy()


def softmax(row: np.ndarray) -> np.ndarray:
    """Softmax of one row."""
    e = [math.exp(v) for v in row]
    return np.array([one / sum(e) for one in e])


def test_siglip_by_loops() -> None:
    """-log σ of each of the n × n pairs with its sign, summed and divided by n (Zhai et al. 2023, algorithm 1)."""
    total = 0.0
    for i in range(N):
        for j in range(N):
            logit = (1 if i == j else -1) * (SCALE * S[i, j] + BIAS)
            total += math.log(1 + math.exp(-logit))
    assert float(siglip(A, B, torch.tensor(math.log(SCALE)), torch.tensor(BIAS))) == pytest.approx(total / N)


def test_siglip_has_its_own_gradient() -> None:
    """The gradient in vectors, scale and bias is that of finite differences, also where σ is nearly 0 or 1."""
    for scale in (SCALE, 40.0):
        some = (A, B, torch.tensor(math.log(scale), dtype=A.dtype), torch.tensor(BIAS, dtype=A.dtype))
        assert torch.autograd.gradcheck(siglip, [one.clone().requires_grad_() for one in some])


def test_infonce_by_loops() -> None:
    """Minus the log of the partner's share, in either direction, halved."""
    forward = -np.mean([math.log(softmax(SCALE * S[i])[i]) for i in range(N)])
    backward = -np.mean([math.log(softmax(SCALE * S[:, i])[i]) for i in range(N)])
    found = infonce(A, B, torch.tensor(math.log(SCALE)), torch.tensor(0.0))
    assert float(found) == pytest.approx((forward + backward) / 2, rel=1e-6)


def test_triplet_by_loops() -> None:
    """What the hardest other item comes too near by, either way (Faghri et al. 2018, equation 6)."""
    forward = [max(0.2 - S[i, i] + max(S[i, j] for j in range(N) if j != i), 0) for i in range(N)]
    backward = [max(0.2 - S[i, i] + max(S[j, i] for j in range(N) if j != i), 0) for i in range(N)]
    found = triplet(A, B, torch.tensor(0.0), torch.tensor(0.0))
    assert float(found) == pytest.approx(np.mean(forward) + np.mean(backward), rel=1e-6)


def test_soft_targets_by_loops() -> None:
    """Cross-entropy to .7 of the partner and .3 of the softmax of the others' mean similarity in either modality."""
    near = ((A @ A.T + B @ B.T) / 2).numpy() / 0.05
    near[np.arange(N), np.arange(N)] = -1e9
    targets = np.array([0.3 * softmax(row) for row in near]) + 0.7 * np.eye(N)
    forward = -np.mean([(targets[i] * np.log(softmax(SCALE * S[i]))).sum() for i in range(N)])
    backward = -np.mean([(targets[i] * np.log(softmax(SCALE * S[:, i]))).sum() for i in range(N)])
    found = soft(A, B, torch.tensor(math.log(SCALE)), torch.tensor(0.0))
    assert float(found) == pytest.approx((forward + backward) / 2, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_paired_vectors_cost_less_than_shuffled_ones(name: str) -> None:
    """Every loss is least where partners agree, at the scale and bias it starts from."""
    loss, scale, bias = LOSSES[name]
    at = torch.tensor(math.log(scale)), torch.tensor(bias)
    assert float(loss(A, A, *at)) < float(loss(A, A.roll(1, 0), *at))
