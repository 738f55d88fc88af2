"""The text side of a space as a model that sentence-transformers loads, without code of ours. No Prefect."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from config.errors import UserError
from storage.folders import fresh_folder, replace_folder
from storage.workspace import Workspace
from tasks.align import open_space
from tasks.encode import spec_of
from tasks.encoders.protocol import EncoderSpec
from tasks.encoders.sentence import FILES, model_folder
from tasks.exports.layers import Layer, layers_of
from tasks.refs import Aligned

_LOADERS = ("tasks.encoders.sentence:load", "tasks.encoders.automodel:load_text")
_POOLING = {"mean": "mean", "cls": "cls"}
_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json")  # where the model has them


def export_model(workspace: Workspace, aligned: Aligned, modality: str, out: Path) -> int:
    """Write one side of a space as a folder for `SentenceTransformer(folder)`; gives the width of its vectors.

    Encoder, pooling, unit length, and the head as dense layers. Raises `UserError` where the encoder is none of texts,
    or where the head is no chain of plain layers.
    """
    joint, _ = open_space(aligned.space.path)
    if modality not in joint.heads:
        raise UserError(f"the space has no {modality}", f"it has {', '.join(joint.heads)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already", "name a folder that is new or empty")
    spec = _exportable(joint.heads[modality].encoders[0], modality)
    try:
        layers = layers_of(joint.heads[modality])
    except ValueError as error:
        raise UserError(f"the {modality} side cannot be exported: {error}", _mend(spec, aligned)) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = fresh_folder(out.absolute())
    try:
        with model_folder(spec, workspace.models) as source:
            _save(source, spec, layers, fresh)
        (fresh / "README.md").write_text(_card(aligned, spec, joint.dim), encoding="utf-8")
        replace_folder(fresh, out.absolute())
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return joint.dim


def _exportable(name: str, modality: str) -> EncoderSpec:
    spec = spec_of(name, modality)
    if spec.modality != "text" or spec.loader not in _LOADERS or spec.pooling not in _POOLING:
        raise UserError(
            f"the {modality} side cannot be exported: sentence-transformers has no standard module for {name}",
            "export the text side, of a BERT, MPNet or another transformer: --modality text",
        )
    return spec


def _mend(spec: EncoderSpec, aligned: Aligned) -> str:
    others = {
        one.modality: [r.encoder for r in aligned.encoded if r.modality == one.modality] for one in aligned.encoded
    }
    wanted = json.dumps(others | {spec.modality: [spec.name]})
    return f"fit a space with one encoder and linear heads: modalign align --set 'encode.encoders={wanted}'"


def _save(source: Path, spec: EncoderSpec, layers: Sequence[Layer], folder: Path) -> None:
    """The modules, as sentence-transformers writes them."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    with TemporaryDirectory() as place:
        for name in (*FILES, *_TOKENIZER):
            if (source / name).is_file():
                shutil.copyfile(source / name, Path(place, name))
        encoder = Transformer(
            place,
            max_seq_length=spec.max_tokens or 256,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
        modules: list[Any] = [encoder, Pooling(spec.dim, pooling_mode=_POOLING[spec.pooling]), Normalize()]
        for one in layers:
            weight, bias = torch.from_numpy(one.weight.T.copy()), torch.from_numpy(one.bias.copy())
            act = torch.nn.ReLU() if one.relu else torch.nn.Identity()
            wide, narrow = one.weight.shape
            modules.append(Dense(wide, narrow, activation_function=act, init_weight=weight, init_bias=bias))
            modules += [Normalize()] if one.unit else []
        SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)


def _card(aligned: Aligned, spec: EncoderSpec, dim: int) -> str:
    space = aligned.space
    return (
        f"# Text side of the joint space {space.name} ({space.space_id})\n\n"
        f"{spec.name} with a head by {space.method} on {space.pairs:,} known pairs; vectors of {dim}, unit length. "
        "They are to be compared by cosine with vectors of the other modalities of this very space.\n\n"
        f"Licence of the encoder: {spec.licence or 'not stated'}. "
        f"In training it has seen: {spec.seen or 'not stated'}.\n\n"
        "```python\nfrom sentence_transformers import SentenceTransformer\n\n"
        'SentenceTransformer("this-folder").encode(["a dog in the snow"])\n```\n'
    )
