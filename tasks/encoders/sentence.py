"""BERT and MPNet sentence encoders: the packaged all-MiniLM-L6-v2 and all-mpnet-base-v2, and folders of that kind.

Source: Reimers & Gurevych 2019. On OpenVINO they need neither torch nor transformers, not even the first time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.encoders.keep import keep
from tasks.encoders.packages import check_hash, weight_files
from tasks.encoders.protocol import EncoderError, EncoderSpec, Runtime
from tasks.encoders.split_zip import unpack
from tasks.encoders.text_encoder import TextEncoder
from tasks.encoders.tokens import Tokens

FILES = frozenset({"config.json", "tokenizer.json", "model.safetensors"})


def load(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> TextEncoder:
    """The encoder on its runtime.

    OpenVINO's graph is built from the weights and kept, with the tokenizer, in `models_dir/<fingerprint>`.
    """
    if runtime.name == "openvino":
        from tasks.encoders.openvino_runner import OpenVinoRunner

        folder = keep(models_dir / fingerprint, lambda fresh: _convert(spec, models_dir, fresh))
        tokens = _tokens(spec, folder)
        return TextEncoder(spec, runtime, fingerprint, tokens, OpenVinoRunner(folder, runtime, threads=threads))
    from tasks.encoders.automodel import text_module
    from tasks.encoders.torch_runner import TorchRunner

    with model_folder(spec, models_dir) as source:
        tokens = _tokens(spec, source)
        runner = TorchRunner(text_module(str(source), None, spec.pooling), runtime, threads=threads)
    return TextEncoder(spec, runtime, fingerprint, tokens, runner)


def _tokens(spec: EncoderSpec, folder: Path) -> Tokens:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Tokens(folder / "tokenizer.json", spec.max_tokens or 256, int(config.get("pad_token_id") or 0))


def _convert(spec: EncoderSpec, models_dir: Path, fresh: Path) -> None:
    from tasks.encoders.bert_graph import build, safetensors_reader
    from tasks.encoders.openvino_runner import save

    with model_folder(spec, models_dir) as folder:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        save(build(config, safetensors_reader(folder / "model.safetensors"), spec.pooling), fresh)
        for name in ("config.json", "tokenizer.json"):
            shutil.copyfile(folder / name, fresh / name)


@contextmanager
def model_folder(spec: EncoderSpec, models_dir: Path) -> Iterator[Path]:
    """A folder that holds `FILES`; mpnet's five pieces are unpacked into one that goes away again.

    Raises `EncoderError` when a file is missing, or a packaged one is not the pinned one.
    """
    if spec.name.startswith("local:"):
        if missing := [name for name in sorted(FILES) if not Path(spec.source, name).is_file()]:
            raise EncoderError(f"{spec.name} holds no {' and no '.join(missing)}", "save it beside the model")
        yield Path(spec.source)
    elif spec.name.startswith("hf:"):
        from tasks.encoders.automodel_names import hub_file

        folders = {hub_file(spec.source, name).parent for name in sorted(FILES)}
        yield folders.pop()  # one revision is one folder
    elif len(files := weight_files(spec)) == 1:
        check_hash(files[0], spec.revision)
        yield files[0].parent
    else:
        models_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".unpack-", dir=models_dir) as folder:
            unpack(files, Path(folder), FILES)
            check_hash(Path(folder) / "model.safetensors", spec.revision)
            yield Path(folder)
