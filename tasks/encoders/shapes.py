"""Fixed batch shapes, so that a vector does not depend on its company: length buckets and rows a batch."""

from __future__ import annotations

from tasks.encoders.protocol import EncoderSpec, Runtime
from tasks.encoders.runtime import has_amx

BUCKETS = (8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Padded lengths in tokens; fine steps where captions lie, for padding costs time."""

_TOKENS = {
    "openvino float32": 128,
    "openvino bfloat16": 256,
    "torch float32": 256,
    "torch bfloat16": 1024,
    "cuda": 16_384,
}


def buckets(max_tokens: int) -> tuple[int, ...]:
    """The padded lengths of an encoder that takes at most `max_tokens`; the last one is that limit.

    >>> buckets(20), buckets(18)
    ((8, 12, 16, 20), (8, 12, 16, 18))
    """
    return (*(size for size in BUCKETS if size < max_tokens), max_tokens)


def bucket(length: int, sizes: tuple[int, ...]) -> int:
    """The padded length of an item of `length` tokens: the item alone decides.

    >>> bucket(7, BUCKETS), bucket(16, BUCKETS), bucket(17, BUCKETS)
    (8, 16, 20)
    """
    return next(size for size in sizes if length <= size)


def rows_of_images(runtime: Runtime) -> int:
    """Images in a batch.

    Measured with OpenVINO on two cores: fp32 is fastest one by one (lite2 on AVX2: 72/s against 45/s by 16), bf16 by 4
    (AVX-512: 129/s against 115/s by 16), and by 16 where the CPU multiplies in tiles (AMX).
    """
    if runtime.device == "cuda":
        return 64
    if runtime.dtype == "float32":
        return 1
    return 16 if has_amx() else 4


def rows_of_texts(length: int, runtime: Runtime) -> int:
    """Texts in a batch of padded `length`: a fixed number of tokens.

    Measured with OpenVINO: 128 to 1,024 tokens are equally fast, so few, for the least delay of one query.
    """
    tokens = _TOKENS["cuda"] if runtime.device == "cuda" else _TOKENS[f"{runtime.name} {runtime.dtype}"]
    return max(tokens // length, 1)


def rows_of_parts(spec: EncoderSpec, runtime: Runtime) -> int:
    """Parts of what lasts in a batch: windows of sound as many as images, clips of many frames few."""
    if spec.modality == "video":
        return 4 if runtime.device == "cuda" else 1
    return rows_of_images(runtime)


def shapes(spec: EncoderSpec, runtime: Runtime) -> list[tuple[int, int]]:
    """The batch shapes that change bits, `(rows, padded length)` for texts: they are part of the fingerprint.

    A convolution's bits do not depend on the rows of its batch (measured, and held by a test), so images have none, nor
    have sounds on OpenVINO; nor does NumPy, which takes one text after the other; `(rows, 0)` for what else lasts.
    """
    if spec.modality == "text" and runtime.name != "numpy":
        return [(rows_of_texts(length, runtime), length) for length in buckets(spec.max_tokens or BUCKETS[-1])]
    if spec.sampling and spec.inner is None and runtime.name == "torch":
        return [(rows_of_parts(spec, runtime), 0)]
    return []
