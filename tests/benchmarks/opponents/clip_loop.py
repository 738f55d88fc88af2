"""clip-retrieval's inference loop, with its defaults: reader, mapper and writer are its own, the two models ours.

Its loop ends with arrays and their names on disk; no index is built. Captions go the way of its multilingual model,
which is any of sentence-transformers. Its package imports a server and an index at once, and its models come from
another package (all_clip): both are left out.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.benchmarks.opponents.work import Work, minilm, network, transform

BATCH, WORKERS = 256, 4
"""Its defaults."""


def _loop(name: str) -> Any:
    """A module of its inference loop, without what its package imports."""
    found = importlib.machinery.PathFinder.find_spec("clip_retrieval")
    assert found is not None
    for package in ("clip_retrieval", "clip_retrieval.clip_inference"):
        if package not in sys.modules:
            sys.modules[package] = bare = ModuleType(package)
            inside = package.split(".")[1:]
            bare.__path__ = [str(Path(place, *inside)) for place in found.submodule_search_locations or ()]
    return importlib.import_module(f"clip_retrieval.clip_inference.{name}")


def _models(**_: Any) -> tuple[Any, None, None]:
    return SimpleNamespace(encode_image=network(), encode_text=None), None, None


def _no_tokens(texts: Any) -> Any:
    return np.zeros((len(texts), 1))  # sentence-transformers makes its own


class _Quiet:
    """Its logger sends figures to a service; here nothing is logged."""

    def start(self) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""

    def __call__(self, _: object) -> None:
        """Nothing."""


def main() -> None:
    """From files to arrays on disk."""
    work = Work.given()
    folder = work.out / "texts"  # it reads one file a caption; they lie there before it begins
    folder.mkdir()
    with work.part("writing of caption files, not counted"):
        for number, text in enumerate(work.texts):
            (folder / f"{number:06d}.txt").write_text(text, encoding="utf-8")
    with work.part("load"):
        sys.modules["all_clip"] = ModuleType("all_clip")
        sys.modules["all_clip"].load_clip = _models  # type: ignore[attr-defined]
        runner, reader, mapper, writer = (_loop(name) for name in ("runner", "reader", "mapper", "writer"))
        prepare = transform()
    for kind, source in (("images", work.collection), ("texts", folder)):
        enabled = {"enable_image": kind == "images", "enable_text": kind == "texts", "enable_metadata": False}

        def read(sampler: Any, source: Path = source, enabled: dict[str, bool] = enabled) -> Any:
            return reader.FilesReader(
                sampler, _pixels, lambda texts: np.zeros((len(texts), 1)), source, BATCH, WORKERS, **enabled
            )

        def encode(enabled: dict[str, bool] = enabled) -> Any:
            return mapper.ClipMapper(
                **enabled, use_mclip=enabled["enable_text"], clip_model="lite0", use_jit=False, mclip_model=minilm()
            )

        def write(part: int, enabled: dict[str, bool] = enabled) -> Any:
            return writer.NumpyWriter(part, str(work.out), **enabled, output_partition_count=1)

        def _pixels(picture: Any) -> Any:
            return prepare(picture.convert("RGB"))

        with work.part(kind):
            runner.Runner(read, encode, write, lambda _: _Quiet(), 1)(0)
    work.searchable()
    work.seconds -= work.parts.pop("writing of caption files, not counted")
    image, text = (np.load(work.out / f"{name}_emb" / f"{name}_emb_0.npy") for name in ("img", "text"))
    order = {file: place for place, file in enumerate(sorted(work.photos))}
    work.tell(image[[order[file] for file in work.photos]], text)


if __name__ == "__main__":
    main()
