"""Mel spectrograms in NumPy. Scale: O'Shaughnessy 1987 as in HTK, 2595·log10(1 + f/700)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


def mel(hertz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Frequencies in Hz on the mel scale.

    >>> mel([0, 700]).round(2).tolist()
    [0.0, 781.17]
    """
    return 2595.0 * np.log10(1.0 + np.asarray(hertz, np.float64) / 700.0)


@lru_cache(maxsize=8)
def filters(rate: int, size: int, bands: int, low: float, high: float) -> Array:
    """Weights `(size // 2 + 1, bands)` float32 of a spectrum's bins in each band, each band's sum 1.

    Bands are triangles on the mel scale, their corners equally spaced on it between `low` and `high` Hz; each begins at
    the middle of the one before. Raises `ValueError` where a band is so narrow that it holds no bin.
    """
    bins = mel(np.arange(size // 2 + 1) * rate / size)[:, None]
    corners = np.linspace(mel(low), mel(high), bands + 2)
    step = corners[1] - corners[0]
    weights = np.maximum(1.0 - np.abs(bins - corners[None, 1:-1]) / step, 0.0)
    total = weights.sum(axis=0)
    if (total == 0).any():
        raise ValueError(f"{int((total == 0).sum())} of {bands} bands hold no bin of {rate / size:.1f} Hz")
    return np.ascontiguousarray(weights / total, dtype=np.float32)


@lru_cache(maxsize=8)
def _runs(rate: int, size: int, bands: int, low: float, high: float) -> tuple[npt.NDArray[np.int64], Array, list[int]]:
    """The bins of all bands one behind the other, their weights, and where each band begins."""
    weights = filters(rate, size, bands, low, high).T
    band, bins = np.nonzero(weights)
    return bins, weights[band, bins], np.searchsorted(band, np.arange(bands)).tolist()


@lru_cache(maxsize=8)
def _hann(size: int) -> Array:
    return np.hanning(size).astype(np.float32)


def mel_power(samples: Array, rate: int, *, size: int, hop: int, bands: int, low: float, high: float) -> Array:
    """Power in each band `(frames, bands)` float32 of frames of `size` samples every `hop`.

    Under a symmetric Hann window. Frames lie within the samples; fewer than `size` are filled up with zeros. Sums are
    our own, not a product of matrices: that one's bits depend on the number of threads, and these wait for each other.
    """
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
    spectrum = np.fft.rfft(frames * _hann(size), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    bins, weights, starts = _runs(rate, size, bands, low, high)
    return np.asarray(np.add.reduceat(power[:, bins] * weights, starts, axis=1))
