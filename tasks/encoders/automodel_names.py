"""``hf:org/name@revision`` and ``local:folder`` → spec, read from config.json alone: no torch, no transformers."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qsl

from tasks.encoders import lsa
from tasks.encoders.bert_graph import knows
from tasks.encoders.origin import Origin, read_origin
from tasks.encoders.pooling import checked_pool
from tasks.encoders.protocol import EncoderError, EncoderSpec, Pooling
from tasks.encoders.sampling import Clips

_MOVING = {"main", "master", "head", "latest"}
_CNNS = {"resnet", "regnet", "efficientnet", "mobilenet_v1", "mobilenet_v2", "bit"}  # pooled, non-negative activations
# what stands for a whole picture, as the models' own classifiers take it: a pooled map or sequence, or the [CLS] token
_POOLED = _CNNS | {"convnext", "convnextv2", "siglip_vision_model", "swin", "swinv2"}
_FIRST = {
    "beit",
    "clip_vision_model",
    "data2vec-vision",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "vit",
}
# what lasts: the modality of each type that is known here, and what stands for a part of it
_LASTING: dict[str, tuple[str, Pooling]] = {
    "audio-spectrogram-transformer": ("audio", "pooler"),
    "clap": ("audio", "pooler"),
    "hubert": ("audio", "mean"),
    "wav2vec2": ("audio", "mean"),
    "wavlm": ("audio", "mean"),
    "whisper": ("audio", "mean"),
    "videomae": ("video", "mean"),
    "xclip": ("video", "pooler"),
}
_NUMBERS = {"audio": ("window", "hop"), "video": ("clips", "fps")}
_CLIPS, _FPS = 5, 7.5  # VideoMAE was trained on every fourth frame of 30 a second
_SHIFTED = {"mpnet", "roberta", "xlm-roberta", "camembert"}  # number their positions after the padding id
_LONGEST = 512
_TOKEN_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json", lsa.VOCABULARY)


def automodel_spec(name: str, modality: str | None = None) -> EncoderSpec:
    """The spec of an AutoModel on the hub or in a folder.

    After ``?`` may stand ``pooling=`` (texts: mean, cls; images: cls, mean, pooler, avg), ``modality=``, ``licence=``;
    of sounds ``window=`` and ``hop=`` in seconds; of videos ``clips=`` and ``fps=``; of both ``pool=``.
    Raises `EncoderError` for a missing or moving revision, an unknown option, a folder that holds no such model.
    """
    kind, _, rest = name.partition(":")
    place, _, query = rest.partition("?")
    origin: Origin | None = None
    options = dict(parse_qsl(query, keep_blank_values=True))
    _check_options(name, options, *_NUMBERS)  # before anything is fetched
    if kind == "hf":
        source = _pinned(name, place)
        revision, config = source, read_object(name, hub_file(source, "config.json"))
    else:
        folder = encoder_folder(name)
        if not (folder / "config.json").is_file():
            raise EncoderError(
                f"{name}: there is no config.json in {folder}", "save the model with save_pretrained there"
            )
        source, config = str(folder), read_object(name, folder / "config.json")
        revision, origin = _content(name, folder), read_origin(folder)
    wanted = options.get("modality") or _modality(config)
    if modality is not None and "modality" not in options and wanted != modality:
        raise EncoderError(f"{name} encodes {wanted}, not {modality}", f"name an encoder for {modality}")
    known = _LASTING.get(str(config.get("model_type")), ("", "mean"))[0]
    _check_options(name, options, known)
    if config.get("is_encoder_decoder") and known != "audio":
        raise EncoderError(f"{name} wants a second input for its decoder", "use an encoder model")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise EncoderError(f"{name}: its kind of position embeddings is not known here", "use another model")
    if known and wanted == known:
        spec = _lasting_spec(name, source, revision, config, options)
    elif known or wanted not in ("text", "image"):
        mend = f"use modality={known}" if known else "use modality=text or modality=image"
        raise EncoderError(f"{name}: modality {wanted!r} is not known here", mend)
    else:
        spec = _spec(name, source, revision, config, wanted, options)
    if origin is None:
        return spec
    licence = options.get("licence", origin.licence)
    return replace(spec, licence=licence, seen=origin.seen, languages=origin.languages)


def encoder_folder(name: str) -> Path:
    """The folder that ``local:folder[?…]`` names.

    >>> encoder_folder("local:/models/bert?pooling=cls").as_posix()
    '/models/bert'
    """
    return Path(name.removeprefix("local:").partition("?")[0]).expanduser().absolute()


def _spec(
    name: str, source: str, revision: str, config: dict[str, Any], modality: str, options: dict[str, str]
) -> EncoderSpec:
    model_type = str(config.get("model_type", ""))
    pooling = _pooling(name, options.get("pooling"), modality, model_type)
    return EncoderSpec(
        name=name,
        modality=modality,
        dim=_dim(name, config),
        revision=revision,
        licence=options.get("licence", "see its model card"),
        loader=_loader(config, modality),
        pooling=pooling,
        source=source,
        cnn_activations=model_type in _CNNS,
        seen="not known here: see its model card",
        max_tokens=_max_tokens(config) if modality == "text" and model_type != lsa.MODEL_TYPE else None,
        runtimes=("numpy",) if model_type == lsa.MODEL_TYPE else ("openvino", "torch"),
    )


def _loader(config: dict[str, Any], modality: str) -> str:
    if config.get("model_type") == lsa.MODEL_TYPE:
        return "tasks.encoders.lsa:load"
    graph = modality == "text" and knows(config)
    return "tasks.encoders.sentence:load" if graph else f"tasks.encoders.automodel:load_{modality}"


def _check_options(name: str, options: dict[str, str], *modalities: str) -> None:
    """Raise `EncoderError` for an option that no encoder of these modalities takes."""
    allowed = ["pooling", "modality", "licence"]
    allowed += [option for modality in modalities for option in _NUMBERS.get(modality, ())]
    allowed += ["pool"] if set(modalities) & set(_NUMBERS) else []
    if unknown := options.keys() - set(allowed):
        mend = "use " + ", ".join(f"{option}=" for option in allowed)
        raise EncoderError(f"{name}: unknown option {', '.join(sorted(unknown))}", mend)


def _lasting_spec(
    name: str, source: str, revision: str, config: dict[str, Any], options: dict[str, str]
) -> EncoderSpec:
    modality, pooling = _LASTING[str(config["model_type"])]
    if options.get("pooling", pooling) != pooling:
        raise EncoderError(f"{name}: pooling {options['pooling']!r} does not fit {modality}", f"use {pooling}")
    for key in _NUMBERS[modality]:
        _number(name, key, options.get(key, "1"))
    pool = checked_pool(name, options.get("pool", "mean"))
    if modality == "video":
        sampling = str(clips_of(name, config))
    elif (config.get("audio_config") or {}).get("enable_fusion"):
        raise EncoderError(f"{name} fuses windows of one sound at random", "use a checkpoint without fusion")
    else:
        sampling = f"windows of {options.get('window', 'its own length')} every {options.get('hop', 'half of it')}"
    return EncoderSpec(
        name=name,
        modality=modality,
        dim=_dim(name, {"dim": config.get("projection_dim")} if "text_config" in config else config),
        revision=revision,
        licence=options.get("licence", "see its model card"),
        loader=f"tasks.encoders.automodel_{modality}:load",
        pooling=pooling,
        source=source,
        seen="not known here: see its model card",
        runtimes=("torch",),
        sampling=f"{sampling}, {pool}",
        pool=pool,
    )


def options_of(name: str) -> dict[str, str]:
    """What stands after the ``?`` of a name."""
    return dict(parse_qsl(name.partition("?")[2], keep_blank_values=True))


def clips_of(name: str, config: dict[str, Any]) -> Clips:
    """Which frames of a video a model reads: X-CLIP a few of the whole, VideoMAE those of short clips, unless told."""
    options = options_of(name)
    frames = config.get("num_frames") or (config.get("vision_config") or {}).get("num_frames")
    if not isinstance(frames, int):
        raise EncoderError(f"{name}: its config.json does not say how many frames it reads", "add num_frames there")
    whole = config.get("model_type") == "xclip" and "fps" not in options
    count = _number(name, "clips", options.get("clips", "1" if whole else str(_CLIPS)))
    return Clips(int(count), frames, None if whole else _number(name, "fps", options.get("fps", str(_FPS))))


def _number(name: str, key: str, value: str) -> float:
    try:
        number = int(value) if key == "clips" else float(value)
    except ValueError:
        number = 0
    if not 0 < number <= 10_000:
        raise EncoderError(f"{name}: {key}={value} is not understood", f"give {key} a number above 0")
    return number


def _pinned(name: str, place: str) -> str:
    repository, _, revision = place.partition("@")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository):
        raise EncoderError(f"{name} names no repository", "write hf:org/name@revision")
    if not revision:
        raise EncoderError(f"{name} has no revision", "pin one: hf:org/name@<commit>, from its page's history")
    if revision.lower() in _MOVING or revision.startswith("refs/"):
        raise EncoderError(f"{name}: the revision {revision} moves, so results would too", "pin a commit")
    return f"{repository}@{revision}"


def hub_file(source: str, file: str) -> Path:
    """A file of ``org/name@revision``: from the hub's cache on disk, else fetched. Raises `EncoderError`."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    repository, _, revision = source.partition("@")
    try:
        cached = try_to_load_from_cache(repository, file, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        return Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # the hub's client raises a dozen kinds; all mean the same to the user
        cause = type(error).__name__
        mend = "check the name, the revision and the network, or save the model to disk and use local:folder"
        raise EncoderError(f"hf:{source}: {file} cannot be fetched ({cause})", mend) from error


def read_object(name: str, path: Path) -> dict[str, Any]:
    """The object of a JSON file. Raises `EncoderError` when it holds none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{name}: {path} cannot be read ({error})", "save the model again") from error
    if not isinstance(config, dict):
        raise EncoderError(f"{name}: {path} holds no object", "save the model again")
    return config


def _content(name: str, folder: Path) -> str:
    """Identity of a folder: its weights, configuration and tokenizer. A moved folder keeps it."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise EncoderError(f"{name}: there are no .safetensors weights in {folder}", "save with safe serialisation")
    others = [folder / file for file in _TOKEN_FILES if (folder / file).is_file()]
    total = hashlib.blake2b(digest_size=20)
    for path in (*others, *weights):
        found = path.stat()
        total.update(f"{path.name}:{_digest(str(path), found.st_size, found.st_mtime_ns)}\n".encode())
    return f"content:{total.hexdigest()}"


@lru_cache(maxsize=64)
def _digest(path: str, size: int, changed: int) -> str:  # noqa: ARG001 - size and time are the key of the cache
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _modality(config: dict[str, Any]) -> str:
    if known := _LASTING.get(str(config.get("model_type"))):
        return known[0]
    if "vision_config" in config or "text_config" in config or "audio_config" in config:
        return "several"
    if "num_channels" in config or "image_size" in config:
        return "image"
    return "text" if "vocab_size" in config else "unknown"


def _pooling(name: str, asked: str | None, modality: str, model_type: str) -> Pooling:
    if asked is None:
        if modality == "text":
            return "mean"
        if model_type not in _POOLED | _FIRST:
            raise EncoderError(
                f"{name}: how {model_type} pools is not known here", "add ?pooling=pooler, cls, mean or avg"
            )
        return "pooler" if model_type in _POOLED else "cls"
    allowed = ("mean", "cls") if modality == "text" else ("mean", "cls", "avg", "pooler")
    for one in get_args(Pooling):
        if one == asked and one in allowed:
            chosen: Pooling = one
            return chosen
    raise EncoderError(f"{name}: pooling {asked!r} does not fit {modality}", f"use one of {', '.join(allowed)}")


def _dim(name: str, config: dict[str, Any]) -> int:
    for key in ("hidden_size", "dim", "d_model", "hidden_dim"):
        if isinstance(config.get(key), int):
            return int(config[key])
    if isinstance(config.get("hidden_sizes"), list) and config["hidden_sizes"]:
        return int(config["hidden_sizes"][-1])
    raise EncoderError(f"{name}: its config.json does not say how wide its vectors are", "use another model")


def _max_tokens(config: dict[str, Any]) -> int:
    longest = int(config.get("max_position_embeddings") or _LONGEST)
    if config.get("model_type") in _SHIFTED:
        longest -= int(config.get("pad_token_id") or 1) + 1
    return min(longest, _LONGEST)
