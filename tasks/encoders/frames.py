"""Videos through an encoder of images: some frames, a vector each, pooled to one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.encoders.fingerprint import fingerprint as fingerprint_of
from tasks.encoders.frames_names import frames_name
from tasks.encoders.image_encoder import ImageEncoder
from tasks.encoders.lasting import Inputs, LastingEncoder, Part
from tasks.encoders.pictures import Pixels
from tasks.encoders.protocol import Array, EncoderError, EncoderSpec, Runtime
from tasks.encoders.sampling import Sampling


@dataclass(frozen=True)
class Frames:
    """Splits a video into parts of the frames that `sampling` names; `prepare` makes each the model's size.

    A part's input is `(h, w, 3)` uint8, or with `stacked` `(t, h, w, 3)`. No more than a part is held at once. With
    `shorter` the decoder gives frames whose shorter side is that, else as large as they are.
    """

    sampling: Sampling
    prepare: Callable[[Pixels], Pixels]
    stacked: bool
    shorter: int | None = None

    def __call__(self, clip: Any) -> Iterator[Part]:
        """(start in seconds, model inputs) of each part of a decoded video."""
        parts = self.sampling(clip)
        shown = clip.frames([time for part in parts for time in part], self.shorter)
        for part in parts:
            frames = [self.prepare(next(shown)) for _ in part]
            yield part[0], (np.stack(frames) if self.stacked else frames[0],)


def load(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> LastingEncoder:
    """The encoder of images on its runtime, reading videos."""
    from tasks.encoders.registry import loader_of

    if spec.inner is None:
        raise EncoderError(f"{spec.name} names no encoder of images", "write frames:<image encoder>")
    _, sampling, _ = frames_name(spec.name)
    marks = fingerprint_of(spec.inner, runtime)
    inner = loader_of(spec.inner)(spec.inner, runtime, marks, models_dir, threads)

    def raw(inputs: Sequence[Inputs]) -> Array:
        return inner.encode([frame for (frame,) in inputs]).vectors

    shorter = inner.prepare.shorter_side if isinstance(inner, ImageEncoder) else None
    split = Frames(sampling, inner.transform, stacked=False, shorter=shorter)
    return LastingEncoder(spec, runtime, fingerprint, split, raw)
