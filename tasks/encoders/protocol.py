"""What an encoder is: a frozen description, a runtime, and two methods. Nothing heavy is imported here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from tasks.media.registry import MediaError

Array = npt.NDArray[np.float32]
Pooling = Literal["mean", "cls", "avg", "pooler", "stages", "classes", "tokens"]
Pool = Literal["mean", "max", "attention"]
RuntimeName = Literal["openvino", "torch", "numpy"]
Dtype = Literal["float32", "bfloat16"]
Device = Literal["cpu", "cuda"]
TOKENS = "#tokens"
"""Behind the name of an encoder: its tokens in place of a pooled vector."""


class EncoderError(Exception):
    """An encoder that cannot be named, found, read or run.

    `message` names the encoder and the cause in one line, `mend` says what to do (may be empty).
    """

    def __init__(self, message: str, mend: str = "") -> None:
        super().__init__(f"{message}; {mend}" if mend else message)
        self.message = message
        self.mend = mend


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """One encoder as data: a literal that pins what it computes.

    Two specs with equal `revision`, `loader`, `pooling`, `normalise`, `dim`, `max_tokens`, `sampling` and `inner` give
    the same vectors.
    """

    name: str
    """How params and the command line call it, e.g. ``builtin:minilm``."""
    modality: str
    dim: int
    """Width of its vectors."""
    revision: str
    """Identity of the weights: ``sha256:…`` of the file, or the repository and commit, or the weights string."""
    licence: str
    loader: str
    """``module:function`` that loads it; imported when the encoder is loaded, not before."""
    pooling: Pooling
    source: str
    """Where the weights come from: package, ``org/name``, weights string or folder."""
    normalise: bool = True
    """L2-normalise each vector. Storage demands unit norm, so all encoders of the registry do."""
    cnn_activations: bool = False
    """Vectors are pooled non-negative CNN activations: take the signed square root before alignment."""
    languages: tuple[str, ...] = ()
    seen: str = ""
    """What it saw in training that a benchmark may hold; printed beside every result."""
    max_tokens: int | None = None
    """Texts beyond this many tokens (special tokens included) are cut and marked truncated."""
    tokens: int = 0
    """Of its tokens it gives so many, `dim // tokens` wide, one behind the other; 0: one pooled vector."""
    runtimes: tuple[RuntimeName, ...] = ("openvino", "torch")
    """What can run it."""
    sampling: str = ""
    """Which parts of what lasts are encoded, and how they are pooled; "" for what does not last."""
    pool: Pool = "mean"
    """How the vectors of these parts become one; `sampling` says it too."""
    classes: str = ""
    """Its vectors are the scores of classes: the list of their names in `tasks.encoders.classes`."""
    inner: EncoderSpec | None = None
    """The encoder that reads the parts, where that is one of another modality."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs an encoder. It changes bits, therefore it is part of the fingerprint."""

    name: RuntimeName
    dtype: Dtype
    device: Device

    def __str__(self) -> str:
        """Short form for people.

        >>> str(Runtime("openvino", "float32", "cpu"))
        'openvino float32 on cpu'
        """
        return f"{self.name} {self.dtype} on {self.device}"


class Encoded(NamedTuple):
    """Vectors `(n, dim)`, C-contiguous, L2-normalised, and `(n,)` bool: the input was cut to fit.

    They are float32. Tokens are float16, all of an input together of unit length; where it has fewer they are zero.
    `failures` are places of inputs that broke while they were read, and why; their rows are zero. `parts` are those of
    each input that lasts, none of one that broke; empty where nothing does.
    """

    vectors: Array
    truncated: npt.NDArray[np.bool_]
    failures: tuple[tuple[int, MediaError], ...] = ()
    parts: Sequence[Parts] = ()


class Parts(NamedTuple):
    """The parts of one medium: starts in seconds, `(n,)` float64 ascending, and unit vectors `(n, dim)`."""

    starts: npt.NDArray[np.float64]
    vectors: Array


@runtime_checkable
class Encoder(Protocol):
    """A loaded encoder. `transform` is called from decoding threads, `encode` by one thread at a time."""

    @property
    def spec(self) -> EncoderSpec:
        """Its description."""

    @property
    def runtime(self) -> Runtime:
        """What runs it."""

    @property
    def fingerprint(self) -> str:
        """32 hex digits of all that changes the vector."""

    def transform(self, content: Any, /) -> Any:
        """Turn a decoded medium into a model input: pure, deterministic, thread-safe.

        Where it is equal in two encoders, both are given one input. An image `(h, w, 3)` uint8 becomes
        `(side, side, 3)` uint8; a text stays as it is; a sound or a video becomes its parts in order of time.
        """

    def encode(self, inputs: Sequence[Any]) -> Encoded:
        """Encode any number of transformed inputs; row i of the result belongs to input i, whatever its company."""


def slug(spec: EncoderSpec) -> str:
    """Name of an encoder for tables and tasks: ``[a-z0-9-]``, 1 to 40 characters, less ``builtin:`` and `TOKENS`.

    >>> spec = EncoderSpec("hf:Facebook/DINOv2_small@ab12", "image", 384, "r", "l", "m:f", "cls", "s")
    >>> slug(spec)
    'hf-facebook-dinov2-small-ab12'
    """
    plain = re.sub(r"[^a-z0-9]+", "-", spec.name.removeprefix("builtin:").removesuffix(TOKENS).lower()).strip("-")
    return plain[:40].strip("-") or "encoder"
