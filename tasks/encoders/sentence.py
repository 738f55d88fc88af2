"""The packaged sentence encoders: all-MiniLM-L6-v2 and all-mpnet-base-v2. Source: Reimers & Gurevych 2019."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.encoders.openvino_runner import Runner, keep_model
from tasks.encoders.packages import weight_files
from tasks.encoders.protocol import EncoderError, EncoderSpec, Runtime
from tasks.encoders.text_encoder import TextEncoder
from tasks.encoders.tokens import Tokens


def load(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> TextEncoder:
    """The encoder on its runtime. OpenVINO's graph is built from the weights and kept in `models_dir/<fingerprint>`."""
    folder = model_folder(spec, models_dir)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokens = Tokens(folder, spec.max_tokens or 256, int(config.get("pad_token_id", 0)))
    if runtime.name == "openvino":
        path = keep_model(models_dir / fingerprint, partial(_graph, folder, config, spec))
        return TextEncoder(spec, runtime, fingerprint, tokens, Runner(path, dtype=runtime.dtype, threads=threads))
    from tasks.encoders.automodel import text_module
    from tasks.encoders.torch_runner import TorchRunner

    module = text_module(str(folder), None, spec.pooling)
    return TextEncoder(spec, runtime, fingerprint, tokens, TorchRunner(module, runtime, threads=threads))


def _graph(folder: Path, config: dict[str, Any], spec: EncoderSpec) -> Any:
    from tasks.encoders.bert_graph import build, safetensors_reader
    from tasks.encoders.openvino_runner import openvino

    openvino()
    return build(config, safetensors_reader(folder / "model.safetensors"), spec.pooling)


def model_folder(spec: EncoderSpec, models_dir: Path) -> Path:
    """The folder with config, tokenizer and weights. MPNet's five pieces are joined and unpacked once."""
    files = weight_files(spec)
    if len(files) == 1:
        return files[0].parent
    target = models_dir / spec.name.removeprefix("builtin:")
    if not (target / "model.safetensors").exists():
        _unpack(files, target)
    return target


def _unpack(parts: tuple[Path, ...], target: Path) -> None:
    """Join the pieces of a zip and unpack the model's own files, flat; whole or not at all."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    joined = fresh / "joined.zip"
    with joined.open("wb") as out:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, out)
    wanted = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"}
    try:
        with zipfile.ZipFile(joined) as archive:
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                # the name alone is used, so no entry can leave the folder; pooling configs lie deeper
                if path.name in wanted and len(path.parts) <= 2:
                    with archive.open(entry) as source, (fresh / path.name).open("wb") as out:
                        shutil.copyfileobj(source, out)
    except zipfile.BadZipFile as error:
        raise EncoderError(f"the pieces of {target.name} do not make a zip ({error})", "install its packages again") from None
    joined.unlink()
    try:
        fresh.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(fresh, ignore_errors=True)
        if not (target / "model.safetensors").exists():
            raise
