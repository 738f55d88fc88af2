"""The fingerprint of an encoder: everything that changes its vectors, and nothing else."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from functools import lru_cache

from tasks.encoders.protocol import EncoderSpec, Runtime
from tasks.encoders.shapes import shapes

PREPROCESSING = {"image": 1, "text": 1, "audio": 2, "video": 2}
"""Version of our own resize, crop, normalise, tokenise, window, sample and pool code, by modality.

Raise it with the code.
"""


@lru_cache(maxsize=16)
def release(package: str) -> str:
    """Major and minor version of an installed package, from its metadata (it is not imported); "" where absent."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
    return ".".join(version.split("+")[0].split(".")[:2])


def decoder_version(modality: str) -> int:
    """Version of the one decoder of this modality (`tasks.media`); 0 for a modality that has none."""
    from tasks.media.registry import MEDIA

    medium = MEDIA.get(modality)
    return 0 if medium is None else medium.version


def fingerprint(spec: EncoderSpec, runtime: Runtime) -> str:
    """32 hex digits of all that changes the vector: weights, preprocessing, pooling, runtime, dtype, batch shapes.

    The name is left out: a moved folder or a new alias of the same weights keeps its vectors.
    """
    parts: dict[str, object] = {
        "weights": [spec.loader, spec.revision, spec.modality, spec.dim],
        "pooling": [spec.pooling, spec.normalise, spec.max_tokens],
        "preprocessing": [PREPROCESSING.get(spec.modality, 0), decoder_version(spec.modality)],
        "runtime": [runtime.name, runtime.dtype, runtime.device],
        "library": release(runtime.name),
        "shapes": shapes(spec, runtime),
    }
    if spec.sampling:
        parts["sampling"] = spec.sampling
    if spec.inner is not None:
        parts["inner"] = fingerprint(spec.inner, runtime)
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
