"""What this machine can do at most: matrix products, inference on ready batches, decoding, tokenising, writing.

`python -m tests.benchmarks.limits COLLECTION MODELS` prints them as JSON, each for all cores.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from config.params import PreprocessParams
from storage import schemas
from storage.tables import Store, vector_column
from tasks.encoders.protocol import Encoder
from tasks.encoders.registry import load, resolve
from tasks.encoders.runtime import cpu_count
from tasks.media.image import decode
from tasks.preprocess import limits_of

PHOTOS, CAPTIONS = 500, 3_000
_AT_ONCE = 64  # media read together, as ingest does
_BLOCK = 1_024  # rows of one write, as ingest's


def fastest(run: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of some runs."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def matmul(dtype: str, side: int = 2_048) -> float:
    """FLOP/s of torch's product of two square matrices in `float32` or `bfloat16`."""
    import torch

    torch.set_num_threads(cpu_count())
    left, right = (torch.randn(side, side, dtype=getattr(torch, dtype)) for _ in range(2))
    return 2 * side**3 / fastest(lambda: left @ right)


def inference(encoder: Encoder, inputs: Sequence[Any]) -> float:
    """Inputs a second, which lie ready in memory: decoded photos, or texts (whose tokens are part of it)."""
    encoder.encode(inputs[:_AT_ONCE])
    return len(inputs) / fastest(lambda: encoder.encode(inputs), 2)


def decoding(files: Sequence[bytes], encoder: Encoder) -> float:
    """Photos a second from bytes to the encoder's input, all cores at work."""
    limits = limits_of(PreprocessParams())
    with ThreadPoolExecutor(cpu_count()) as pool:
        return len(files) / fastest(lambda: list(pool.map(lambda data: encoder.transform(decode(data, limits)), files)))


def tokenising(encoder: Any, texts: Sequence[str]) -> float:
    """Texts a second through the tokenizer, on one core as ingest does it."""
    return len(texts) / fastest(lambda: encoder.tokens(texts))


def writing(folder: Path, rows: int = 16_384, dim: int = 384) -> float:
    """Vectors a second into a fresh table, by key, in blocks as ingest writes them."""
    store, schema = Store(folder), schemas.embeddings(dim, "{}", "0" * 32)
    vectors = np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def write() -> None:
        for start in range(0, rows, _BLOCK):
            part = vectors[start : start + _BLOCK]
            keys = [f"{row:032x}" for row in range(start, start + len(part))]
            columns = [pa.array(keys, pa.string()), vector_column(part), pa.array(np.zeros(len(part), np.bool_))]
            store.upsert("embeddings", schema, pa.Table.from_arrays(columns, schema=schema))

    return rows / fastest(write, 1)


def measure(collection: Path, models: Path) -> dict[str, float]:
    """All of them, on the first photos and captions of a collection."""
    rows = [json.loads(line) for line in (collection / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    files = [(collection / row["file_name"]).read_bytes() for row in rows[:PHOTOS]]
    texts = [text for row in rows for text in row["captions"]][:CAPTIONS]
    photos = load(resolve("builtin:efficientnet-lite0", "image"), device="cpu", models_dir=models)
    captions = load(resolve("builtin:minilm", "text"), device="cpu", models_dir=models)
    limits = limits_of(PreprocessParams())
    ready = [photos.transform(decode(data, limits)) for data in files]
    with tempfile.TemporaryDirectory() as folder:
        written = writing(Path(folder))
    return {
        "fp32 matmul, GFLOP/s": matmul("float32") / 1e9,
        "bf16 matmul, GFLOP/s": matmul("bfloat16") / 1e9,
        "photos/s, inference alone": inference(photos, ready),
        "captions/s, inference alone": inference(captions, texts),
        "photos/s, decoding alone": decoding(files, photos),
        "captions/s, tokenising alone": tokenising(captions, texts),
        "vectors/s, writing alone": written,
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]))))
