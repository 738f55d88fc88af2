"""The script that most people would write: torch and sentence-transformers in fp32, default settings, into LanceDB.

sentence-transformers sorts the captions of one call by length by itself: they are given in one call.
"""

from __future__ import annotations

from tests.benchmarks.opponents.work import Tables, Work, batches, minilm, network, transform


def main() -> None:
    """From files to searchable tables."""
    work = Work.given()
    with work.part("load"):
        import torch
        from PIL import Image
        from sentence_transformers import SentenceTransformer

        net, prepare, model, tables = network(), transform(), SentenceTransformer(minilm()), Tables(work.out)
    with work.part("images"), torch.inference_mode():
        for files in batches(work.photos):
            pixels = torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])
            vectors = torch.nn.functional.normalize(net(pixels))
            tables.add("image", files, vectors.numpy())
    with work.part("texts"):
        texts = work.texts
        tables.add("text", texts, model.encode(texts, normalize_embeddings=True))
    with work.part("index"):
        tables.index()
    work.searchable()
    work.tell(tables.vectors("image"), tables.vectors("text"))


if __name__ == "__main__":
    main()
