"""torchvision's networks of videos without their last layer, on clips as their authors evaluated them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.encoders.frames import Frames
from tasks.encoders.lasting import LastingEncoder, in_batches
from tasks.encoders.pictures import Pixels
from tasks.encoders.protocol import EncoderSpec, Runtime
from tasks.encoders.shapes import rows_of_parts
from tasks.encoders.torch_runner import TorchRunner
from tasks.encoders.torchvision_models import trained, without_last_layer
from tasks.encoders.torchvision_video_names import VIDEO_WEIGHTS


def load(
    spec: EncoderSpec,
    runtime: Runtime,
    fingerprint: str,
    models_dir: Path,  # noqa: ARG001 - all loaders are called alike; torch keeps nothing
    threads: int,
) -> LastingEncoder:
    """The encoder on torch."""
    weights = spec.name.removeprefix("torchvision:")
    _, size, side, clips = VIDEO_WEIGHTS[weights]
    runner = TorchRunner(clip_module(weights), runtime, threads=threads)
    split = Frames(clips, partial(resized, size=size, side=side), stacked=True)
    return LastingEncoder(spec, runtime, fingerprint, split, partial(in_batches, runner, rows_of_parts(spec, runtime)))


def resized(pixels: Pixels, *, size: tuple[int, ...], side: int) -> Pixels:
    """A frame `(h, w, 3)` uint8 → `(side, side, 3)` uint8 by torchvision's rule for videos: bilinear, not smoothed."""
    import torch
    from torchvision.transforms import InterpolationMode, functional

    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    planes = functional.resize(planes, list(size), InterpolationMode.BILINEAR, antialias=False)
    return np.ascontiguousarray(functional.center_crop(planes, [side, side]).permute(1, 2, 0).numpy())


def clip_module(weights: str) -> Any:
    """A torch module: clips `(n, t, side, side, 3)` uint8 → the input of the last layer, `(n, dim)`."""
    import torch
    from torchvision import models

    net = models.get_model(weights.partition("_Weights")[0].lower(), weights=None)
    net, preset = trained(weights, net)
    without_last_layer(net)

    class Penultimate(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            mean = torch.tensor(preset.mean, device=pixels.device).view(1, 3, 1, 1, 1)
            std = torch.tensor(preset.std, device=pixels.device).view(1, 3, 1, 1, 1)
            x = (pixels.permute(0, 4, 1, 2, 3).float() / 255.0 - mean) / std
            return torch.as_tensor(self.net(x.to(next(self.net.parameters()).dtype)).float().flatten(1))

    return Penultimate().eval()
