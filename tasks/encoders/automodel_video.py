"""Video models of the transformers library on torch: VideoMAE, and X-CLIP's tower of videos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks.encoders.automodel import file_of, place_of, read_model, read_processor
from tasks.encoders.automodel_names import clips_of, read_object
from tasks.encoders.frames import Frames
from tasks.encoders.lasting import LastingEncoder, in_batches
from tasks.encoders.protocol import EncoderSpec, Runtime
from tasks.encoders.shapes import rows_of_parts
from tasks.encoders.torch_runner import TorchRunner


def load(
    spec: EncoderSpec,
    runtime: Runtime,
    fingerprint: str,
    models_dir: Path,  # noqa: ARG001 - all loaders are called alike; torch keeps nothing
    threads: int,
) -> LastingEncoder:
    """The encoder on torch."""
    prepare, mean, std = read_processor(spec.name, read_object(spec.name, file_of(spec, "preprocessor_config.json")))
    clips = clips_of(spec.name, read_object(spec.name, file_of(spec, "config.json")))
    runner = TorchRunner(video_module(*place_of(spec), mean, std), runtime, threads=threads)
    split = Frames(clips, prepare, stacked=True)
    return LastingEncoder(spec, runtime, fingerprint, split, partial(in_batches, runner, rows_of_parts(spec, runtime)))


def video_module(where: str, revision: str | None, mean: list[float], std: list[float]) -> Any:
    """A torch module: clips `(n, t, h, w, 3)` uint8 → `(n, d)`: VideoMAE's mean state, X-CLIP's projection."""
    import torch

    model = read_model(where, revision)

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            shift = torch.tensor(mean, device=pixels.device).view(1, 1, 3, 1, 1)
            scale = torch.tensor(std, device=pixels.device).view(1, 1, 3, 1, 1)
            x = (pixels.permute(0, 1, 4, 2, 3).float() / 255.0 - shift) / scale
            x = x.to(next(self.model.parameters()).dtype)
            if self.model.config.model_type == "xclip":
                return torch.as_tensor(self.model.get_video_features(pixel_values=x).pooler_output.float())
            return torch.as_tensor(self.model(pixel_values=x).last_hidden_state.float().mean(1))

    return Pooled().eval()
