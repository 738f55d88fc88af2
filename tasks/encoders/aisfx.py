"""aiSFX from its package: a network for sound effects, 512 wide. Source: Ma and Lerch 2022 (ISMIR), X-Sequential-CE.

Its spectrogram is Essentia's, of which the package gives the parameters: frames of 2,048 samples every 1,024 at
44.1 kHz, the first one centred on the first sample; 96 mel bands of power, log10(1 + 10⁴·power), over the largest value
of its training data. Of the package only the network is imported.
"""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.lasting import Inputs, LastingEncoder, in_batches
from tasks.encoders.mel import mel_power
from tasks.encoders.packages import check_hash, weight_files
from tasks.encoders.protocol import Array, EncoderError, EncoderSpec, Runtime
from tasks.encoders.runners import load_runner
from tasks.encoders.shapes import rows_of_parts
from tasks.encoders.windows import Windows

RATE, SIZE, HOP, BANDS, FRAMES = 44_100, 2_048, 1_024, 96, 100
LENGTH = SIZE + (FRAMES - 1) * HOP
STEP = FRAMES // 2 * HOP
LARGEST = 9.457798957824707


def load(spec: EncoderSpec, runtime: Runtime, fingerprint: str, models_dir: Path, threads: int) -> LastingEncoder:
    """The encoder on its runtime; on OpenVINO it is converted once and kept in `models_dir/<fingerprint>`."""
    rows = rows_of_parts(spec, runtime)
    example = np.zeros((rows, FRAMES, BANDS), np.float32)
    runner = load_runner(partial(network, spec), runtime, models_dir / fingerprint, threads, example=example)
    split = Windows(RATE, LENGTH, STEP, _prepared, lead=SIZE // 2)
    return LastingEncoder(spec, runtime, fingerprint, split, partial(in_batches, runner, rows))


def spectrogram(samples: npt.NDArray[np.float32]) -> Array:
    """A window of `LENGTH` samples at 44.1 kHz → `(100, 96)` float32 about 0…1; a shorter one ends in silence."""
    whole = np.pad(samples, (0, LENGTH - len(samples)))
    power = mel_power(whole, RATE, size=SIZE, hop=HOP, bands=BANDS, low=0.0, high=RATE / 2)
    found: Array = np.log10(power * 1e4 + 1) / np.float32(LARGEST)
    return found


def _prepared(samples: npt.NDArray[np.float32]) -> Inputs:
    return (spectrogram(samples),)


def network(spec: EncoderSpec) -> Any:
    """The torch network: spectrograms `(n, 100, 96)` → `(n, 512)`, non-negative."""
    import torch

    (path,) = weight_files(spec)
    check_hash(path, spec.revision)
    with torch.serialization.safe_globals(_harmless()):
        weights, _ = torch.load(path, map_location="cpu", weights_only=True)
    cnn2d = importlib.import_module("aisfx.models.cnn2d")
    net = cnn2d.EmbeddingNet("max", 3, 1, 64)
    prefix = "embedding_net."
    try:
        net.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    except RuntimeError as error:
        raise EncoderError(
            f"{path} does not hold the weights of {spec.name}", f"install {spec.source} again"
        ) from error

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.net(frames.to(next(self.net.parameters()).dtype)).float())

    return Pooled().eval()


def _harmless() -> list[Any]:
    """What the file holds besides tensors: NumPy integers, the numbers of classes in its training sets."""
    import _codecs

    scalar = importlib.import_module("numpy._core.multiarray").scalar
    return [(scalar, "numpy.core.multiarray.scalar"), np.dtype, type(np.dtype(np.int64)), _codecs.encode]
