"""Files that hold streams of sound and pictures, opened by their content alone: nothing outside a file is ever read."""

from __future__ import annotations

import io
from typing import Any

import av
from av.stream import Disposition

from tasks.media.registry import MediaError

# a list of songs or addresses is no medium, and a reader that follows it would leave the file
_FORMATS = (
    "3gp,aac,ac3,aiff,amr,asf,au,avi,caf,flac,flv,h264,hevc,ivf,m4v,matroska,mov,mp3,mpeg,mpegts,mpegvideo,ogg,w64,wav,"
    "webm"
)
_BEGINNINGS = (b"RIFF", b"OggS", b"fLaC", b"\x1a\x45\xdf\xa3")
_SAYS_ITS_LENGTH = {"mov", "matroska", "avi"}  # other formats guess it from their rate of bits


ERRORS = (av.error.FFmpegError, OSError, ValueError)
"""What FFmpeg raises for a file that it cannot read."""


def opened(data: bytes, kind: str) -> Any:
    """The file as an `av` container, to be used in a `with`; `kind`, audio or video, is what it should hold.

    Raises `MediaError`: not_<kind>, <kind>_truncated where a file ends before its index, <kind>_no_stream.
    """
    try:
        container = av.open(io.BytesIO(data), options={"format_whitelist": _FORMATS, "protocol_whitelist": "none"})
    except ERRORS:
        if data[4:8] == b"ftyp" or data.startswith(_BEGINNINGS):
            raise _cut(kind) from None
        raise MediaError(f"not_{kind}", f"starts with {data[:12]!r}, which no known {kind} does") from None
    stream = stream_of(container, kind)
    if stream is None:
        # an MP4 without its index is taken for something else
        damaged = not container.streams or (data[4:8] == b"ftyp" and "mov" not in container.format.name)
        container.close()
        if damaged:
            raise _cut(kind)
        raise MediaError(f"{kind}_no_stream", f"the file holds no {kind}")
    stream.codec_context.thread_count = 1  # the reading threads are parallel already
    return container


def _cut(kind: str) -> MediaError:
    return MediaError(f"{kind}_truncated", "the file ends before its index, or has none")


def stream_of(container: Any, kind: str) -> Any:
    """The first stream of a kind that can be decoded; None where there is none. The cover of an album is no video."""
    return next(
        (
            one
            for one in getattr(container.streams, kind)
            if one.codec_context is not None and not one.disposition & Disposition.attached_pic
        ),
        None,
    )


def declared_seconds(container: Any, kind: str) -> float | None:
    """How long the file says that its stream of a kind is; None where it does not say."""
    if not _SAYS_ITS_LENGTH & set(container.format.name.split(",")):
        return None
    stream = stream_of(container, kind)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1_000_000 if container.duration else None


def cause_of(error: Exception) -> str:
    """What a decoder says, in a few words."""
    return str(getattr(error, "strerror", None) or error or "damaged")
