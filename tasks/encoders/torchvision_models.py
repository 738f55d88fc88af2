"""torchvision classifiers without their last layer. Weights come from torch's cache on disk, or its download site."""

from __future__ import annotations

import hashlib
import pickle
import re
import sys
import warnings
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from tasks.encoders.image_encoder import ImageEncoder, load_image_encoder
from tasks.encoders.pictures import ResizeCrop
from tasks.encoders.protocol import EncoderError, EncoderSpec, Runtime
from tasks.encoders.torchvision_names import WEIGHTS


def load(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> ImageEncoder:
    """The encoder on its runtime; on OpenVINO it is converted once and kept in `models_dir/<fingerprint>`."""
    weights = spec.name.removeprefix("torchvision:")
    _, shorter, side, filter_ = WEIGHTS[weights]
    prepare = ResizeCrop(side, side, shorter, filter_)
    module = partial(penultimate_module, weights)
    return load_image_encoder(spec, runtime, fingerprint, models_dir, threads, prepare=prepare, module=module)


def penultimate_module(weights: str) -> Any:
    """A torch module: pixels `(n, side, side, 3)` uint8 → the input of the last linear layer, `(n, dim)`."""
    import torch

    net, preset = trained(weights, network(weights))
    without_last_layer(net)

    class Penultimate(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            mean = torch.tensor(preset.mean, device=pixels.device).view(1, 3, 1, 1)
            std = torch.tensor(preset.std, device=pixels.device).view(1, 3, 1, 1)
            x = (pixels.permute(0, 3, 1, 2).float() / 255.0 - mean) / std
            return torch.as_tensor(self.net(x.to(next(self.net.parameters()).dtype)).float().flatten(1))

    return Penultimate().eval()


def trained(weights: str, net: Any) -> tuple[Any, Any]:
    """The network with its weights, and the preset of its inputs. Raises `EncoderError`."""
    from torchvision import models

    chosen = models.get_weight(weights)
    try:
        net.load_state_dict(_state(chosen))
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        file = chosen.url.rpartition("/")[2]
        mend = f"check the network, or put {file} into the folder checkpoints of torch.hub.get_dir()"
        raise EncoderError(f"torchvision:{weights} cannot be loaded ({cause})", mend) from error
    return net, chosen.transforms()


def without_last_layer(net: Any) -> None:
    """Let the last linear layer, or a classifier of convolutions, give what enters it."""
    import torch

    linear = [name for name, layer in net.named_modules() if isinstance(layer, torch.nn.Linear)]
    net.set_submodule(linear[-1] if linear else "classifier", torch.nn.Identity())


def network(weights: str) -> Any:
    """The untrained network that these weights fit."""
    from torchvision import models

    name, side = weights.partition("_Weights")[0].lower(), WEIGHTS[weights][2]
    # a ViT has one position embedding a patch, so its weights fix the size of its input
    return models.get_model(name, weights=None, **({"image_size": side} if name.startswith("vit_") else {}))


# DenseNet's files are older than torch's ban on dots within a module's name
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=\d\.)")


def _state(chosen: Any) -> dict[str, Any]:
    """The weights by the names of today's modules, from a file whose hash is checked."""
    import torch

    file = Path(torch.hub.get_dir(), "checkpoints", chosen.url.rpartition("/")[2])
    if file.is_file():  # torch checks what it downloads, and trusts what lies there
        _check(file)
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):  # torch prints that it downloads
        warnings.simplefilter("ignore")
        state = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    return {_DENSE.sub(r"\1", name): value for name, value in state.items()}


def _check(file: Path) -> None:
    """Raise `EncoderError` unless the SHA-256 of ``name-<first digits>.pth`` begins as its name says."""
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(file.stem.rpartition("-")[2]):
        raise EncoderError(
            f"{file} is damaged (its SHA-256 begins {found[:8]})", "delete it, or put the right one there"
        )
