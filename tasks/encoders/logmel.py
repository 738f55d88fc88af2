"""The floor that learned sound encoders must beat: statistics of a log-mel spectrogram. NumPy alone, no weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.encoders.lasting import Inputs, LastingEncoder
from tasks.encoders.mel import mel_power
from tasks.encoders.protocol import Array, EncoderSpec, Runtime
from tasks.encoders.windows import Windows

_RATE, _SIZE, _HOP, _BANDS = 22_050, 1_024, 512, 64
_WINDOW, _STEP = 5 * _RATE, 5 * _RATE // 2


def load(
    spec: EncoderSpec,
    runtime: Runtime,
    fingerprint: str,
    models_dir: Path,  # noqa: ARG001 - all loaders are called alike
    threads: int,  # noqa: ARG001
) -> LastingEncoder:
    """The encoder; there is nothing to load."""
    return LastingEncoder(spec, runtime, fingerprint, Windows(_RATE, _WINDOW, _STEP, _prepared), _stacked)


def statistics(samples: npt.NDArray[np.float32]) -> Array:
    """A window at 22,050 Hz → `(193,)` float32 in bels, of its 64-band spectrogram's logarithm.

    By band: the mean over time less the mean of all, the standard deviation, the mean change from frame to frame; then
    the mean of all, which alone speaks of loudness. Silence is -10 bels.
    """
    power = mel_power(samples, _RATE, size=_SIZE, hop=_HOP, bands=_BANDS, low=0.0, high=_RATE / 2)
    bels = np.log10(power.astype(np.float64) + 1e-10)
    mean, level = bels.mean(axis=0), bels.mean()
    change = np.abs(np.diff(bels, axis=0)).mean(axis=0) if len(bels) > 1 else np.zeros(_BANDS)
    return np.concatenate([mean - level, bels.std(axis=0), change, [level]]).astype(np.float32)


def _prepared(samples: npt.NDArray[np.float32]) -> Inputs:
    return (statistics(samples),)


def _stacked(inputs: Sequence[Inputs]) -> Array:
    return np.stack([one for (one,) in inputs])
