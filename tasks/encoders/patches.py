"""An encoder's tokens or patches in place of its pooled vector, few of them: what heads of attention read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tasks.encoders.protocol import TOKENS, EncoderError, EncoderSpec

_SIDE = 4
_COUNTS = {"text": 32, "image": _SIDE * _SIDE}
_LOADERS = ("tasks.encoders.efficientnet:", "tasks.encoders.sentence:", "tasks.encoders.automodel:")


def tokens_of(spec: EncoderSpec) -> EncoderSpec:
    """The spec of an encoder's tokens: the first 32 of a text, a grid of 4 × 4 patches of a picture.

    Raises `EncoderError` for an encoder that gives none.
    """
    if not spec.loader.startswith(_LOADERS) or spec.pooling in ("stages", "classes"):
        raise EncoderError(f"{spec.name} gives no tokens", "take an encoder that is builtin:, hf: or local:")
    count = _COUNTS[spec.modality]
    return replace(spec, name=spec.name + TOKENS, dim=count * spec.dim, pooling="tokens", tokens=count)


def patches(maps: Any) -> Any:
    """Torch maps `(n, d, h, w)` → means over a grid of 4 × 4 patches, row by row: `(n, 16 · d)`."""
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(maps, _SIDE).flatten(2).transpose(1, 2).flatten(1)
