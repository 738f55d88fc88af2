"""What the stages of a convolutional network see: mean and spread of each channel, stage by stage.

Colour, line and texture live in the early stages, and the last convolution has forgotten much of them. Channel
statistics as a description of style: Gatys et al. 2016; Huang and Belongie 2017.
"""

from __future__ import annotations

from typing import Any

STAGES = "-stages"
"""Ends the name of an encoder that gives them."""


def ends(widths: list[int]) -> list[int]:
    """The last block of each stage, from the channels of all blocks: a stage is a run of blocks of one width.

    >>> ends([16, 24, 24, 40])
    [0, 2, 3]
    """
    return [i for i, width in enumerate(widths) if i + 1 == len(widths) or widths[i + 1] != width]


def statistics(maps: list[Any]) -> Any:
    """Torch maps `(n, c, h, w)` → each one's means and spreads over its pixels, at unit length: `(n, 2 · Σc)`."""
    import torch

    out = []
    for one in maps:
        mean = one.mean((2, 3))
        spread = (one - mean[:, :, None, None]).square().mean((2, 3)).sqrt()
        out += [mean / (mean.norm(dim=1, keepdim=True) + 1e-6), spread / (spread.norm(dim=1, keepdim=True) + 1e-6)]
    return torch.cat(out, 1)
