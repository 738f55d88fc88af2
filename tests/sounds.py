"""Sounds made for the tests: tones, and files of every kind that holds them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

RATE = 44_100


def tone(seconds: float, hertz: float = 440.0, rate: int = RATE, *, noise: int = 0) -> Samples:
    """A sine of half the full scale with a little noise, `(n,)`; `noise` picks another noise."""
    time = np.arange(round(seconds * rate)) / rate
    hiss = np.random.default_rng(noise).normal(0, 0.02, time.size)
    return (0.5 * np.sin(2 * np.pi * hertz * time) + hiss).astype(np.float32)


def written(samples: Samples, kind: str = "WAV", *, rate: int = RATE, subtype: str | None = None) -> bytes:
    """A file by libsndfile: WAV, FLAC, OGG, MP3 …; `samples` are `(n,)` or `(n, channels)`."""
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


def spoiled(data: bytes, places: list[tuple[int, int]]) -> bytes:
    """A file with some bytes written over: (place, byte)."""
    out = bytearray(data)
    for place, byte in places:
        out[place % len(out)] = byte
    return bytes(out)


def muxed(samples: Samples, kind: str, codec: str, *, rate: int = RATE) -> bytes:
    """A mono file by FFmpeg: ipod (M4A), adts, webm, mp4 …"""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        planes = av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=rate)
        for part in [*planes.resample(frame), *planes.resample(None), None]:
            container.mux(stream.encode(part))
    return out.getvalue()
