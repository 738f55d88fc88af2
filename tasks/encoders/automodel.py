"""Models of the transformers library as torch modules: texts, and images as ViT, DINOv2 or ResNet take them.

Only safetensors weights are read, and no code that comes with a model is run.
"""

from __future__ import annotations

import importlib
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tasks.encoders.automodel_names import hub_file, read_object
from tasks.encoders.image_encoder import ImageEncoder, load_image_encoder
from tasks.encoders.pictures import RESAMPLING, ResizeCrop
from tasks.encoders.protocol import EncoderError, EncoderSpec, Pooling, Runtime
from tasks.encoders.text_encoder import TextEncoder
from tasks.encoders.tokens import Tokens

# the image processors whose rules are known here: do they read a size that is one number as the shorter side?
_ONE_NUMBER = {
    "Beit": False,
    "Bit": True,
    "CLIP": True,
    "ConvNext": True,
    "DINOv3ViT": False,
    "DeiT": False,
    "MobileNetV1": True,
    "MobileNetV2": True,
    "Pvt": False,
    "Siglip": True,
    "ViT": False,
    "VideoMAE": True,
}
# switches of rules that are not followed here, and the setting in which they change nothing
_SWITCHES = {
    "do_resize": True,
    "do_rescale": True,
    "do_pad": False,
    "do_flip_channel_order": False,
    "include_top": False,
    "rescale_offset": False,
}


def load_text(
    spec: EncoderSpec,
    runtime: Runtime,
    fingerprint: str,
    models_dir: Path,  # noqa: ARG001 - all loaders are called alike; torch keeps nothing
    threads: int,
) -> TextEncoder:
    """A text AutoModel on torch. (BERT and MPNet go through `sentence.load`.)"""
    from tasks.encoders.torch_runner import TorchRunner

    config = read_object(spec.name, file_of(spec, "config.json"))
    pad = config.get("pad_token_id")
    tokens = Tokens(file_of(spec, "tokenizer.json"), spec.max_tokens or 256, pad if isinstance(pad, int) else 0)
    where, revision = place_of(spec)
    runner = TorchRunner(text_module(where, revision, spec.pooling), runtime, threads=threads)
    return TextEncoder(spec, runtime, fingerprint, tokens, runner)


def load_image(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> ImageEncoder:
    """An image AutoModel; on OpenVINO it is converted once and kept in `models_dir/<fingerprint>`."""
    about = read_object(spec.name, file_of(spec, "preprocessor_config.json"))
    prepare, mean, std = read_processor(spec.name, about)
    where, revision = place_of(spec)
    module = partial(image_module, where, revision, spec.pooling, mean, std)
    return load_image_encoder(spec, runtime, fingerprint, models_dir, threads, prepare=prepare, module=module)


def place_of(spec: EncoderSpec) -> tuple[str, str | None]:
    """The repository and revision, or the folder and None, of a model."""
    if spec.name.startswith("hf:"):
        repository, _, revision = spec.source.partition("@")
        return repository, revision
    return spec.source, None


def file_of(spec: EncoderSpec, name: str) -> Path:
    """A file of a model. Raises `EncoderError`."""
    if spec.name.startswith("hf:"):
        return hub_file(spec.source, name)
    path = Path(spec.source) / name
    if not path.is_file():
        raise EncoderError(f"{spec.name}: there is no {name} in {spec.source}", "save it beside the model")
    return path


def read_processor(name: str, about: dict[str, Any]) -> tuple[ResizeCrop, list[float], list[float]]:
    """Resize and crop, and the mean and standard deviation of pixels in 0…1, of a parsed preprocessor_config.json.

    Raises `EncoderError` for a rule that is not known here, rather than encode a picture wrongly.
    """
    try:
        family = _family(about)
        return _box(about, family), *_normalisation(about)
    except KeyError as error:
        cause = f"it does not say {error.args[0]}"
    except (TypeError, ValueError) as error:
        cause = str(error)
    raise EncoderError(f"{name}: its preprocessor_config.json is not understood ({cause})", "use another encoder")


def _family(about: dict[str, Any]) -> str:
    """Whose rules these are, "" where the file does not say; raises `ValueError` for rules not known here."""
    kind = str(about.get("image_processor_type") or about.get("feature_extractor_type") or "")
    family = re.sub("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", kind)
    if family and family not in _ONE_NUMBER:
        raise ValueError(kind)
    for switch, neutral in _SWITCHES.items():
        if bool(about.get(switch, neutral)) is not neutral:
            raise ValueError(f"{switch}: {about[switch]}")
    if not math.isclose(float(about.get("rescale_factor") or 1 / 255) * 255, 1, rel_tol=1e-6):
        raise ValueError(f"rescale_factor: {about['rescale_factor']}")
    return family


def _box(about: dict[str, Any], family: str) -> ResizeCrop:
    size, crop, cut = about["size"], about.get("crop_size"), bool(about.get("do_center_crop"))
    if int(about["resample"]) not in RESAMPLING:
        raise ValueError(f"resample: {about['resample']}")
    resampling = RESAMPLING[int(about["resample"])]
    if isinstance(size, int):
        shorter_side = _ONE_NUMBER.get(family, cut or "crop_pct" in about)
        size = {"shortest_edge": size} if shorter_side else {"height": size, "width": size}
    if not isinstance(size, dict):
        raise TypeError(f"size: {size}")
    if size.keys() == {"height", "width"} and not cut:
        return ResizeCrop(int(size["height"]), int(size["width"]), filter=resampling)
    if size.keys() != {"shortest_edge"}:
        raise ValueError(f"size: {size}, {'' if cut else 'not '}cropped")
    shorter = int(size["shortest_edge"])
    if family == "ConvNext" or "crop_pct" in about:  # resize larger and crop to the size; from 384 on, stretch
        larger = int(shorter / float(about.get("crop_pct") or 224 / 256)) if shorter < 384 else 0
        return ResizeCrop(shorter, shorter, larger, resampling, floor=True)
    if not cut:
        raise ValueError("pictures would keep their shape")
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else about["crop_size"]
    height, width = int(crop["height"]), int(crop["width"])
    if max(height, width) > shorter:
        raise ValueError(f"crop_size: {crop} of size {size}")
    return ResizeCrop(height, width, shorter, resampling, floor=True)


def _normalisation(about: dict[str, Any]) -> tuple[list[float], list[float]]:
    if about.get("do_normalize", True) is False:
        return [0.0] * 3, [1.0] * 3
    mean, std = [float(one) for one in about["image_mean"]], [float(one) for one in about["image_std"]]
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"image_mean: {mean}, image_std: {std}")
    return mean, std


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice while a model is read; the library's own settings come back afterwards."""
    logging = importlib.import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read_model(where: str, revision: str | None) -> Any:
    """An AutoModel in evaluation mode, of a folder or of a revision on the hub. Raises `EncoderError`."""
    from transformers import AutoModel

    pinned: dict[str, Any] = {"local_files_only": True} if revision is None else {"revision": revision}
    try:
        with quiet():
            return AutoModel.from_pretrained(where, use_safetensors=True, trust_remote_code=False, **pinned).eval()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(f"{where} cannot be loaded ({cause})", "check that it is a whole AutoModel") from error


def text_module(where: str, revision: str | None, pooling: Pooling) -> Any:
    """A torch module: ids `(b, l)` and lengths `(b,)`, both int32 → pooled `(b, d)`; masked beyond a length.

    As tokens: `(b, l, d)`, zero beyond a length.
    """
    import torch

    model = read_model(where, revision)

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            mask = torch.arange(ids.shape[1], device=ids.device)[None, :] < lengths[:, None]
            hidden = self.model(input_ids=ids.long(), attention_mask=mask.long()).last_hidden_state.float()
            if pooling == "cls":
                return torch.as_tensor(hidden[:, 0])
            kept = mask.float().unsqueeze(-1)
            if pooling == "tokens":
                return torch.as_tensor(hidden * kept)
            return torch.as_tensor((hidden * kept).sum(1) / kept.sum(1))

    return Pooled().eval()


def _grid(tokens: Any, where: str) -> Any:
    """Tokens `(n, t, d)` as the map `(n, d, side, side)` of the patches that they stand for."""
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise EncoderError(f"{where}: its {tokens.shape[1]} patches are no square", "use another encoder, or pooling")
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def image_module(where: str, revision: str | None, pooling: Pooling, mean: list[float], std: list[float]) -> Any:
    """A torch module: pixels `(n, h, w, 3)` uint8 → pooled `(n, d)`.

    cls: the first token; mean: all other tokens; pooler: the model's own; avg: over the last map. tokens: the last map,
    or the other tokens, as `patches`.
    """
    import torch

    from tasks.encoders.patches import patches

    model = read_model(where, revision)
    skip = 1 + int(getattr(model.config, "num_register_tokens", 0) or 0)

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            shift = torch.tensor(mean, device=pixels.device).view(1, 3, 1, 1)
            scale = torch.tensor(std, device=pixels.device).view(1, 3, 1, 1)
            x = (pixels.permute(0, 3, 1, 2).float() / 255.0 - shift) / scale
            out = self.model(pixel_values=x.to(next(self.model.parameters()).dtype))
            if pooling == "pooler":
                if out.pooler_output is None:
                    raise EncoderError(f"{where} has no pooler", "use ?pooling=cls or ?pooling=mean")
                return torch.as_tensor(out.pooler_output.float().flatten(1))
            hidden = out.last_hidden_state.float()
            if pooling == "tokens":
                return torch.as_tensor(patches(hidden if hidden.dim() == 4 else _grid(hidden[:, skip:], where)))
            if hidden.dim() == 4:
                return torch.as_tensor(hidden.mean((2, 3)))
            if pooling == "cls":
                return torch.as_tensor(hidden[:, 0])
            return torch.as_tensor(hidden[:, skip:].mean(1) if pooling == "mean" else hidden.mean(1))

    return Pooled().eval()
