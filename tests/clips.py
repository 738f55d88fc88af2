"""Videos made for the tests: each frame of one grey that tells its number, in files of every kind."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

STEP = 4  # greys from one frame to the next
FPS = 25


def grey(number: int, width: int = 64, height: int = 48) -> Pixels:
    """Frame `number`: all of one grey."""
    return np.full((height, width, 3), 20 + STEP * number, np.uint8)


def number_of(pixels: Pixels) -> int:
    """Which frame it is, by its grey."""
    return round((float(pixels.mean()) - 20) / STEP)


def filmed(
    frames: Sequence[Pixels],
    kind: str = "mp4",
    codec: str = "libx264",
    *,
    times: Sequence[int] | None = None,
    group: int = 12,
    options: dict[str, str] | None = None,
    stretch: Fraction | None = None,
) -> bytes:
    """A video of `frames`, 25 a second or at `times` in milliseconds, a key frame every `group`.

    `stretch` is how many times as wide as high its pixels are shown.
    """
    import av

    with TemporaryDirectory() as folder:  # some kinds are written twice
        path = Path(folder) / "clip"
        with av.open(str(path), "w", format=kind, options=options or {}) as container:
            stream: Any = container.add_stream(codec, rate=FPS)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            context = stream.codec_context
            context.gop_size = group
            if stretch is not None:
                context.sample_aspect_ratio = stretch
            context.thread_count = 1  # with more, the file's bits would change from call to call
            context.time_base = Fraction(1, 1_000) if times else Fraction(1, FPS)
            for number, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = times[number] if times else number, context.time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def sounding(
    frames: Sequence[Pixels], samples: npt.NDArray[np.float32], *, rate: int = 16_000, fps: int = FPS
) -> bytes:
    """An MP4 of frames, `fps` a second, with a sound track of mono `samples`."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        video: Any = container.add_stream("mpeg4", rate=fps)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio: Any = container.add_stream("aac", rate=rate, layout="mono")
        for pixels in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts = rate, 0
        planes = av.AudioResampler(format="fltp", layout="mono", rate=rate, frame_size=1_024)
        for part in [*planes.resample(sound), *planes.resample(None), None]:
            container.mux(audio.encode(part))
    return out.getvalue()


def film(count: int = 50, kind: str = "mp4", codec: str = "libx264", **more: Any) -> bytes:
    """A video of `count` greys."""
    return filmed([grey(number) for number in range(count)], kind, codec, **more)


def turned(data: bytes, quarters: int) -> bytes:
    """An MP4 whose header asks to show it turned by so many quarters clockwise: its track's matrix is written over."""
    cosine, sine = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters % 4]
    old, new = (
        struct.pack(">9i", a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30)
        for a, b in ((1, 0), (cosine, sine))
    )
    at = data.index(old, data.index(b"tkhd"))
    return data[:at] + new + data[at + len(old) :]


def half(data: bytes) -> bytes:
    """The first half of a file."""
    return data[: len(data) // 2]


def moving(count: int, draw: Callable[[int], Pixels], **more: Any) -> bytes:
    """A video whose frame `number` is `draw(number)`."""
    return filmed([draw(number) for number in range(count)], **more)
