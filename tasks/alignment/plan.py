"""How to fit: the method's name and its fixed choices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Loss = Literal["siglip", "infonce", "triplet", "soft"]
Shape = Literal["linear", "residual", "gated", "attention"]


@dataclass(frozen=True)
class HeadPlan:
    """How heads are trained by gradient: their shape, the loss, and where they start."""

    shape: Shape = "linear"
    loss: Loss = "siglip"
    warm: bool = True
    mixup: bool = False
    steps: int = 500
    batch: int = 512
    rate: float = 3e-4
    decay: float = 0.1
    dropout: float = 0.1


@dataclass(frozen=True)
class Plan:
    """The method's name, the widths, the folds that choose its values, and the seed."""

    method: str = "cca"
    dim: int = 384
    pca: int = 768
    folds: int = 3
    hubness_k: int = 10
    bank: int = 5_000
    seed: int = 0
    seconds: float = 300.0
    heads: HeadPlan = field(default_factory=HeadPlan)


@dataclass(frozen=True)
class TunePlan:
    """How an encoder is fine-tuned: its last blocks, the loss, two rates of AdamW, and the groups that judge it."""

    blocks: int = 2
    loss: Loss = "siglip"
    steps: int = 300
    batch: int = 512
    rate: float = 3e-4
    decay: float = 0.01
    head_rate: float = 3e-4
    head_decay: float = 0.1
    dropout: float = 0.1
    held: float = 0.1
    pca: int = 768
    seed: int = 0
