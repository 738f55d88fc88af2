"""An uploaded file: known by its content, not by its name; kept under a name of ours, while it is asked with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.server.errors import ApiError
from tasks.media.registry import Limits, MediaError, get

LIMITS = Limits(max_pixels=50_000_000, max_seconds=600.0)
"""Bounds on an upload: narrower than those of a collection, for anybody may ask."""

_KINDS = {"image": ".png", "video": ".mp4", "audio": ".wav"}  # in this order: a video may hold sound
_TOO_LARGE = {"image_too_large", "video_too_large", "video_too_long", "audio_too_long"}
_FOREIGN = {"not_an_image", "not_audio", "not_video", "audio_no_stream", "video_no_stream", "video_is_picture"}


def modality_of(data: bytes) -> str:
    """What the bytes are. Raises `ApiError` 413, 415 or 422, in words of ours."""
    if not data:
        raise ApiError(422, "file_empty", "the file holds no byte", "choose another file")
    refused: MediaError | None = None
    for modality in _KINDS:
        try:
            get(modality).inspect(data, LIMITS)
            return modality
        except MediaError as error:
            if error.code not in _FOREIGN:
                refused = refused or error
    if refused is None:
        raise ApiError(
            415, "media_unknown", "the file is no picture, sound or video", "send a PNG, JPEG, WAV, MP3, MP4 …"
        )
    status = 413 if refused.code in _TOO_LARGE else 422
    raise ApiError(status, refused.code, refused.message, "send another file")


@contextmanager
def kept(data: bytes, modality: str) -> Iterator[Path]:
    """A file of the bytes, which goes with the block; nothing of the name it was sent under is in its path."""
    with tempfile.TemporaryDirectory(prefix="modalign-upload-") as folder:
        path = Path(folder) / f"upload{_KINDS[modality]}"
        path.write_bytes(data)
        yield path
