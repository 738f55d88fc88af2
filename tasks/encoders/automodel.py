"""Models of the transformers library as torch modules: texts, and images as ViT, DINOv2 or ResNet take them.

Only safetensors weights are read, and no code that comes with a model is run.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tasks.encoders.automodel_names import hub_file
from tasks.encoders.image_encoder import ImageEncoder, load_image_encoder
from tasks.encoders.pictures import RESAMPLING, ResizeCrop
from tasks.encoders.protocol import EncoderError, EncoderSpec, Pooling, Runtime
from tasks.encoders.text_encoder import TextEncoder
from tasks.encoders.tokens import Tokens

_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def load_text(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> TextEncoder:
    """A text AutoModel on torch. (BERT and MPNet go through `sentence.load`.)"""
    from tasks.encoders.torch_runner import TorchRunner

    config = json.loads(_file(spec, "config.json").read_text(encoding="utf-8"))
    pad = config.get("pad_token_id")
    tokens = Tokens(_file(spec, "tokenizer.json"), spec.max_tokens or 256, pad if isinstance(pad, int) else 0)
    where, revision = _where(spec)
    runner = TorchRunner(text_module(where, revision, spec.pooling), runtime, threads=threads)
    return TextEncoder(spec, runtime, fingerprint, tokens, runner)


def load_image(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> ImageEncoder:
    """An image AutoModel; on OpenVINO it is converted once and kept in `models_dir/<fingerprint>`."""
    about = json.loads(_file(spec, "preprocessor_config.json").read_text(encoding="utf-8"))
    prepare, mean, std = read_processor(spec.name, about)
    where, revision = _where(spec)
    module = partial(image_module, where, revision, spec.pooling, mean, std)
    return load_image_encoder(spec, runtime, fingerprint, models_dir, threads, prepare=prepare, module=module)


def _where(spec: EncoderSpec) -> tuple[str, str | None]:
    if spec.name.startswith("hf:"):
        repository, _, revision = spec.source.partition("@")
        return repository, revision
    return spec.source, None


def _file(spec: EncoderSpec, name: str) -> Path:
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
    size = about.get("size", 224)
    if isinstance(size, int):
        size = {"shortest_edge": size} if about.get("do_center_crop") else {"height": size, "width": size}
    crop = about.get("crop_size", size)
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    number = int(about.get("resample", 2))
    if (
        about.get("do_resize", True) is not True
        or number not in RESAMPLING
        or about.get("do_rescale", True) is not True
    ):
        raise EncoderError(f"{name}: its preprocessor_config.json is not understood", "use an encoder that resizes")
    if "shortest_edge" in size:
        shorter = int(size["shortest_edge"])
        if "crop_pct" in about and shorter < 384:  # ConvNeXt, ResNet: resize larger, crop to the size
            crop = {"height": shorter, "width": shorter}
            shorter = int(shorter / float(about["crop_pct"]))
        elif "crop_pct" in about:
            return _normalised(about, ResizeCrop(shorter, shorter, filter=RESAMPLING[number]))
        elif not about.get("do_center_crop", False) or "height" not in crop:
            raise EncoderError(f"{name}: its pictures would keep their shape", "use an encoder with a fixed input size")
        box = ResizeCrop(int(crop["height"]), int(crop["width"]), shorter, RESAMPLING[number])
        return _normalised(about, box)
    if "height" in size and "width" in size:
        return _normalised(about, ResizeCrop(int(size["height"]), int(size["width"]), filter=RESAMPLING[number]))
    raise EncoderError(
        f"{name}: the size {size} in its preprocessor_config.json is not understood", "use another encoder"
    )


def _normalised(about: dict[str, Any], box: ResizeCrop) -> tuple[ResizeCrop, list[float], list[float]]:
    if about.get("do_normalize", True) is False:
        return box, [0.0] * 3, [1.0] * 3
    mean, std = about.get("image_mean", _IMAGENET[0]), about.get("image_std", _IMAGENET[1])
    return box, [float(one) for one in mean], [float(one) for one in std]


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no advice while a model is read; the library's own settings come back afterwards."""
    from transformers.utils import logging

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


def _model(where: str, revision: str | None) -> Any:
    from transformers import AutoModel

    pinned: dict[str, Any] = {"local_files_only": True} if revision is None else {"revision": revision}
    try:
        with _quiet():
            return AutoModel.from_pretrained(
                where, use_safetensors=True, trust_remote_code=False, attn_implementation="sdpa", **pinned
            ).eval()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(f"{where} cannot be loaded ({cause})", "check that it is a whole AutoModel") from error


def text_module(where: str, revision: str | None, pooling: Pooling) -> Any:
    """A torch module: ids `(b, l)` and lengths `(b,)`, both int32 → pooled `(b, d)`; what lies beyond a length is masked."""
    import torch

    model = _model(where, revision)

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
            return torch.as_tensor((hidden * kept).sum(1) / kept.sum(1))

    return Pooled().eval()


def image_module(where: str, revision: str | None, pooling: Pooling, mean: list[float], std: list[float]) -> Any:
    """A torch module: pixels `(n, h, w, 3)` uint8 → pooled `(n, d)`.

    cls: the first token; mean: all other tokens; pooler: the model's own; avg: over the last map.
    """
    import torch

    model = _model(where, revision)
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
            if hidden.dim() == 4:
                return torch.as_tensor(hidden.mean((2, 3)))
            if pooling == "cls":
                return torch.as_tensor(hidden[:, 0])
            return torch.as_tensor(hidden[:, skip:].mean(1) if pooling == "mean" else hidden.mean(1))

    return Pooled().eval()
