"""The plain script with the documented switches for CPUs: bf16 in torch, or OpenVINO.

`… OUT MODELS torch` has both models in bf16. `… openvino` has captions by sentence-transformers' OpenVINO backend;
`… all-openvino` has the photos' network, for which sentence-transformers has no switch, converted by OpenVINO as well,
with its defaults. What is converted is kept in MODELS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.opponents.work import SIDE, Tables, Work, batches, minilm, network, transform


def photos_by_torch() -> Callable[[Any], Any]:
    """Photos' pixels → unit vectors, in bf16 with channels last."""
    import torch

    net = network().to(dtype=torch.bfloat16, memory_format=torch.channels_last)

    def encode(pixels: Any) -> Any:
        wide = pixels.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
        return torch.nn.functional.normalize(net(wide).float()).numpy()

    return encode


def photos_by_openvino(models: Path) -> Callable[[Any], Any]:
    """Photos' pixels → unit vectors; the network is converted at the first time."""
    import numpy as np
    import openvino as ov
    import torch

    path = models / "lite0.xml"
    if not path.exists():
        ov.save_model(ov.convert_model(network(), example_input=torch.zeros(1, 3, SIDE, SIDE)), path)
    net = ov.compile_model(path)

    def encode(pixels: Any) -> Any:
        raw = net(pixels.numpy())[0]
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)

    return encode


def texts_by_openvino(models: Path) -> Any:
    """The model of captions; it is converted at the first time."""
    from sentence_transformers import SentenceTransformer

    path = models / "minilm"
    if not path.exists():
        SentenceTransformer(minilm(), backend="openvino").save_pretrained(str(path))
    return SentenceTransformer(str(path), backend="openvino")


def main() -> None:
    """From files to searchable tables."""
    work, how = Work.given(), sys.argv[4]
    with work.part("load"):
        import torch
        from PIL import Image
        from sentence_transformers import SentenceTransformer

        work.models.mkdir(exist_ok=True)
        encode = photos_by_openvino(work.models) if how == "all-openvino" else photos_by_torch()
        if how == "torch":
            model = SentenceTransformer(minilm(), model_kwargs={"torch_dtype": "bfloat16"})
        else:
            model = texts_by_openvino(work.models)
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
