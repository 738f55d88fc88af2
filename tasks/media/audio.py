"""One decoder for all sound encoders: bytes → mono samples at any rate, block by block, whatever the file holds."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.media.container import ERRORS, cause_of, declared_seconds, opened, stream_of
from tasks.media.registry import Limits, MediaError

Samples = npt.NDArray[np.float32]

_BLOCK = 1 << 16  # samples a channel that are decoded at once


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A recording. It is decoded anew whenever its blocks are asked for, so that only its file is held.

    `rate` is in samples a second, `seconds` what the file declares, None where it does not say.
    """

    data: bytes = field(repr=False)
    rate: int
    channels: int
    seconds: float | None
    limits: Limits
    read: Callable[[bytes], Iterator[Samples]] = field(repr=False)

    def blocks(self, rate: int) -> Iterator[Samples]:
        """The mean of all channels at `rate` samples a second: blocks `(n,)` float32, mostly within -1…1.

        Resampled by soxr (band-limited; its bits do not depend on the blocks). Raises `MediaError`: audio_empty,
        audio_truncated, audio_not_finite, audio_too_long.
        """
        if rate == self.rate:
            yield from self._checked()
            return
        import soxr

        stream = soxr.ResampleStream(self.rate, rate, 1, dtype="float32", quality="HQ")
        for block in self._checked():
            yield stream.resample_chunk(block)
        yield stream.resample_chunk(np.empty(0, np.float32), last=True)

    def _checked(self) -> Iterator[Samples]:
        count = 0
        for block in self.read(self.data):
            count += len(block)
            _check_length(count / self.rate, self.limits)
            if not np.isfinite(block).all():
                raise MediaError("audio_not_finite", f"a sample before {count / self.rate:.1f} s is not a number")
            yield block
        if not count:
            raise MediaError("audio_empty", "the file holds no sample")
        got = count / self.rate
        if self.seconds is not None and self.seconds - got > 0.1 + 0.01 * self.seconds:
            raise MediaError("audio_truncated", f"the file declares {self.seconds:.1f} s and ends after {got:.1f} s")


def inspect(data: bytes, limits: Limits) -> None:
    """Check the header and the first block. Raises `MediaError` as `decode` and its blocks do."""
    for _ in decode(data, limits).blocks(8_000):
        break


def decode(data: bytes, limits: Limits) -> Sound:
    """The recording in a WAV, FLAC, Ogg (Vorbis, Opus), MP3, MP4, WebM … file, known by its content, not its name.

    Raises `MediaError`: file_empty, not_audio, audio_no_stream, audio_truncated, audio_unreadable, audio_too_long.
    """
    if not data:
        raise MediaError("file_empty", "the file holds no byte")
    if _cut_short(data):
        raise MediaError("audio_truncated", "the file is shorter than its header says")
    sound = _by_soundfile(data, limits) or _by_container(data, limits)
    _check_length(sound.seconds or 0.0, limits)
    return sound


def _check_length(seconds: float, limits: Limits) -> None:
    if seconds > limits.max_seconds:
        raise MediaError("audio_too_long", f"{seconds:,.0f} s are more than {limits.max_seconds:,.0f}")


def _cut_short(data: bytes) -> bool:
    """WAV and AIFF say how long they are, and a page of an Ogg file says how long it is."""
    order = {b"RIFF": "<I", b"FORM": ">I"}.get(data[:4])
    if order and len(data) >= 12:
        size = int(struct.unpack(order, data[4:8])[0])
        return len(data) + 16 < size + 8 < 0x7FFF0000  # beyond: written to a pipe, so without a length
    if data.startswith(b"OggS"):
        page = data[data.rfind(b"OggS") :]
        lengths = page[27 : 27 + page[26]] if len(page) >= 27 else b""
        return len(page) < 27 or len(lengths) < page[26] or len(page) < 27 + len(lengths) + sum(lengths)
    return False


class _File(io.BytesIO):
    """Bytes to be read by libsndfile, which asks broken files for places before their start."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:  # an exception here would only be printed
            return self.tell()


def _by_soundfile(data: bytes, limits: Limits) -> Sound | None:
    """None where libsndfile does not know the format."""
    import soundfile

    try:
        with soundfile.SoundFile(_File(data)) as file:
            seconds = file.frames / file.samplerate
            return Sound(data, file.samplerate, file.channels, seconds, limits, _soundfile_blocks)
    except (soundfile.LibsndfileError, TypeError):  # a headerless kind asks for its format
        return None


def _soundfile_blocks(data: bytes) -> Iterator[Samples]:
    import soundfile

    with soundfile.SoundFile(_File(data)) as file:
        try:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                yield block.mean(axis=1)
        except soundfile.LibsndfileError as error:
            raise _broken(error) from None


def _by_container(data: bytes, limits: Limits) -> Sound:
    with opened(data, "audio") as container:
        stream = stream_of(container, "audio")
        if not stream.rate or not stream.channels:
            raise MediaError("audio_unreadable", "the file does not say its rate or its channels")
        seconds = declared_seconds(container, "audio")
        return Sound(data, stream.rate, stream.channels, seconds, limits, _container_blocks)


def _container_blocks(data: bytes) -> Iterator[Samples]:
    import av

    with opened(data, "audio") as container:
        planes = av.AudioResampler(format="fltp")
        try:
            for frame in container.decode(stream_of(container, "audio")):
                for part in planes.resample(frame):
                    yield part.to_ndarray().mean(axis=0)
        except ERRORS as error:
            raise _broken(error) from None


def _broken(error: Exception) -> MediaError:
    return MediaError("audio_truncated", f"the sound breaks off before its end ({cause_of(error)})")
