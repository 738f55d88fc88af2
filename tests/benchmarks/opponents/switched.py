"""The plain script with the documented switches for CPUs: bf16 in torch, or OpenVINO.

`… OUT MODELS torch` or `… OUT MODELS openvino`. For sentence-transformers these are its own (`torch_dtype`, `backend`);
the photos' network is switched the same way: bf16 with channels last, or converted by OpenVINO with its defaults. What
is converted is kept in MODELS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.opponents.work import SIDE, Tables, Work, batches, minilm, network, transform


def by_torch() -> tuple[Callable[[Any], Any], Any]:
    """Photos' pixels → vectors, and the model of texts, in bf16."""
    import torch
    from sentence_transformers import SentenceTransformer

    net = network().to(dtype=torch.bfloat16, memory_format=torch.channels_last)

    def encode(pixels: Any) -> Any:
        wide = pixels.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
        return torch.nn.functional.normalize(net(wide).float()).numpy()

    return encode, SentenceTransformer(minilm(), model_kwargs={"torch_dtype": "bfloat16"})


def by_openvino(models: Path) -> tuple[Callable[[Any], Any], Any]:
    """Photos' pixels → vectors, and the model of texts, by OpenVINO; both are converted at the first time."""
    import numpy as np
    import openvino as ov
    import torch
    from sentence_transformers import SentenceTransformer

    texts, photos = models / "minilm", models / "lite0.xml"
    if not texts.exists():
        models.mkdir(exist_ok=True)
        example = torch.zeros(1, 3, SIDE, SIDE)
        ov.save_model(ov.convert_model(network(), example_input=example), photos)
        SentenceTransformer(minilm(), backend="openvino").save_pretrained(str(texts))
    net = ov.compile_model(photos)

    def encode(pixels: Any) -> Any:
        raw = net(pixels.numpy())[0]
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    return encode, SentenceTransformer(str(texts), backend="openvino")


def main() -> None:
    """From files to searchable tables."""
    work, how = Work.given(), sys.argv[4]
    with work.part("load"):
        import torch
        from PIL import Image

        encode, model = by_openvino(work.models) if how == "openvino" else by_torch()
        prepare, tables = transform(), Tables(work.out)
    with work.part("images"), torch.inference_mode():
        for files in batches(work.photos):
            pixels = torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])
            tables.add("image", files, encode(pixels))
    with work.part("texts"):
        texts = work.texts
        tables.add("text", texts, model.encode(texts, normalize_embeddings=True))
    with work.part("index"):
        tables.index()
    work.searchable()
    work.tell(tables.vectors("image"), tables.vectors("text"))


if __name__ == "__main__":
    main()
