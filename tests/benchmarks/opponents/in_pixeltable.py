"""Pixeltable's embedding indexes: photos by a function around the same network, captions by its own for MiniLM."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from tests.benchmarks.opponents.work import COLD, Work, minilm


def main() -> None:
    """From files to searchable tables."""
    work = Work.given()
    os.environ["PIXELTABLE_HOME"] = str(work.out / "pixeltable")
    with work.part("load"):
        import pixeltable as pxt
        from pixeltable.functions.huggingface import sentence_transformer
    with work.part(COLD):
        pxt.init()
    with work.part("tables"):
        from tests.benchmarks.opponents.pixeltable_lite0 import lite0

        photos = pxt.create_table("photos", {"image": pxt.Image})
        captions = pxt.create_table("captions", {"text": pxt.String})
        by_minilm = sentence_transformer.using(model_id=minilm(), normalize_embeddings=True)
        photos.add_embedding_index("image", embedding=lite0, precision="fp32")
        captions.add_embedding_index("text", embedding=by_minilm, precision="fp32")
    with work.part("images"):
        photos.insert([{"image": file} for file in work.photos])
    with work.part("texts"):
        captions.insert([{"text": text} for text in work.texts])
    work.searchable()
    image = _all(photos.select(key=photos.image.fileurl, vector=photos.image.embedding()))
    text = _all(captions.select(key=captions.text, vector=captions.text.embedding()))
    # its database outlives the process
    os.kill(int((work.out / "pixeltable" / "pgdata" / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
    work.tell([image[Path(file).as_uri()] for file in work.photos], [text[one] for one in work.texts])


def _all(query: Any) -> dict[str, Any]:
    return {row["key"]: row["vector"] for row in query.collect()}


if __name__ == "__main__":
    main()
