"""One decoder for all video encoders: bytes → the pictures shown at given times, RGB and upright, one after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.reformatter import Interpolation, VideoReformatter

from tasks.media import image
from tasks.media.container import ERRORS, cause_of, declared_seconds, opened, stream_of
from tasks.media.registry import Limits, MediaError

Pixels = npt.NDArray[np.uint8]

_CUT = 0.1  # mean difference of two small grey frames, of full scale, that begins a new scene
_SMALL = (64, 36)
_NARROW = 8  # so many times as long as wide: resized to its shorter side it would be huge
_SCALING = Interpolation.BICUBIC | Interpolation.BITEXACT  # the same bits by every processor
_SHRINKING = _SCALING | Interpolation.FULL_CHR_H_INT  # a colour for every column, for two would share one


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A video. Frames are decoded anew whenever they are asked for, so that only its file is held.

    `seconds` is how long its frames last, `frame_count` how many there are; its pixels are made square by `stretch`.
    Times are seconds from the first frame on.
    """

    data: bytes = field(repr=False)
    seconds: float
    index: Index = field(repr=False)
    stretch: float = 1.0

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self.index.times)

    def frames(self, times: Sequence[float], shorter: int | None = None) -> Iterator[Pixels]:
        """The frame shown at each of `times` (ascending): RGB `(height, width, 3)` uint8, upright, one a time.

        With `shorter` its shorter side has so many pixels: it is resized (bicubic) while its colours are converted,
        which costs a third of a conversion followed by a resize. A very narrow picture stays as it is.

        Only groups of pictures that hold a wanted frame are decoded, and one frame is held. Raises
        `MediaError("video_unreadable")`.
        """
        wanted = self.index.shown_at(times)
        convert = VideoReformatter()  # one for all: it keeps what it has worked out for a size
        place = 0
        for number, frame in _decoded(self.data, self.index, sorted(set(wanted))):
            pixels = _upright(frame, convert, self.stretch, shorter)
            while place < len(wanted) and wanted[place] == number:
                yield pixels
                place += 1

    def scenes(self) -> list[tuple[float, float]]:
        """Start and end in seconds of each scene: a new one begins where a frame differs much from the one before.

        All frames are decoded, in small. A fade is no cut.
        """
        starts = [0.0]
        before: npt.NDArray[np.floating[Any]] | None = None
        convert = VideoReformatter()
        for number, frame in _decoded(self.data, self.index, range(self.frame_count)):
            grey = convert.reformat(frame, *_SMALL, "gray", threads=1).to_ndarray().astype(np.float32) / 255
            if before is not None and np.abs(grey - before).mean() >= _CUT:
                starts.append(float(self.index.times[number]))
            before = grey
        return list(zip(starts, [*starts[1:], self.seconds], strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The frames of a video, known without decoding: `times` `(n,)` in seconds, ascending; the first is 0.

    `ticks` `(n,)` are the same in the file's own units. `keys` `(k,)` are the numbers of frames that lean on no other.
    """

    ticks: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    keys: npt.NDArray[np.int64]

    def shown_at(self, times: Sequence[float]) -> list[int]:
        """Number of the frame shown at each time: the last that has begun."""
        begun = np.searchsorted(self.times, np.asarray(times, np.float64) + 1e-6, side="right")
        return [int(one) for one in np.maximum(begun - 1, 0)]

    def key_of(self, number: int) -> int:
        """The frame from which on one must decode to see frame `number`."""
        return int(self.keys[max(int(np.searchsorted(self.keys, number, side="right")) - 1, 0)])


def inspect(data: bytes, limits: Limits) -> None:
    """Check the header, the index and the first frame. Raises `MediaError` as `decode` and `Clip.frames` do."""
    next(decode(data, limits).frames([0.0]))


def decode(data: bytes, limits: Limits) -> Clip:
    """The video in an MP4, MOV, Matroska, WebM, AVI, MPEG … file, known by its content, not its name.

    Of several video streams the first counts. Raises `MediaError`: file_empty, not_video, video_is_picture,
    video_no_stream, video_empty, video_truncated, video_too_large, video_too_long. No frame is decoded yet.
    """
    if not data:
        raise MediaError("file_empty", "the file holds no byte")
    try:
        container = opened(data, "video")
    except MediaError as error:
        if error.code == "not_video" and _is_picture(data, limits):
            raise MediaError("video_is_picture", "the file holds a still picture") from None
        raise
    with container:
        stream = stream_of(container, "video")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.max_pixels:
            raise MediaError("video_too_large", f"{width} × {height} pixels are more than {limits.max_pixels:,}")
        stretch = float(stream.sample_aspect_ratio or 1)
        declared = declared_seconds(container, "video")
        index, seconds = _scan(container, stream)
    if seconds > limits.max_seconds:
        raise MediaError("video_too_long", f"{seconds:,.0f} s are more than {limits.max_seconds:,.0f}")
    if declared is not None and declared - seconds > 0.5 + 0.01 * declared:
        raise MediaError("video_truncated", f"the file declares {declared:.1f} s and ends after {seconds:.1f} s")
    return Clip(data, seconds, index, stretch)


def _is_picture(data: bytes, limits: Limits) -> bool:
    try:
        image.inspect(data, limits)
    except MediaError as error:
        return error.code == "image_too_large"
    return True


def _packets(container: Any, stream: Any) -> Iterator[tuple[int, Any]]:
    """(tick, packet) of a stream in the order of the file; where the file gives no time, from the packet before."""
    after = 0
    for packet in container.demux(stream):
        if not packet.size:  # the mark at the end
            continue
        start = packet.dts if packet.pts is None else packet.pts
        tick = after if start is None else int(start)
        after = tick + (packet.duration or 1)
        yield tick, packet


def _scan(container: Any, stream: Any) -> tuple[Index, float]:
    """The frames of a stream and how many seconds they last, from its packets: nothing is decoded."""
    ticks: list[int] = []
    keys: list[int] = []
    end = 0
    try:
        for tick, packet in _packets(container, stream):
            if packet.is_keyframe:
                keys.append(tick)
            if not packet.is_discard:  # else before the place where the file says that it begins
                ticks.append(tick)
                end = max(end, tick + (packet.duration or 0))
    except ERRORS as error:
        raise MediaError("video_truncated", f"the file breaks off before its end ({cause_of(error)})") from None
    if not ticks:
        raise MediaError("video_empty", "the file holds no frame")
    shown = np.unique(np.array(ticks, np.int64))
    begins = np.searchsorted(shown, np.unique(np.array(keys or ticks[:1], np.int64)))
    unit = float(stream.time_base)
    return Index(shown, (shown - shown[0]) * unit, begins), float((end - shown[0]) * unit)


def _decoded(data: bytes, index: Index, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
    """(number, frame) of the frames numbered `wanted` (ascending); others are decoded only where these lean on them.

    In the place of a frame that does not come out stands the one before it.
    """
    queue = deque(wanted)
    last: Any = None
    try:
        with opened(data, "video") as container:
            for number, frame in _runs(container, index, queue):
                while queue and queue[0] <= number:
                    want = queue.popleft()
                    yield want, frame if number == want or last is None else last
                last = frame
    except ERRORS as error:
        raise MediaError("video_unreadable", f"a frame cannot be decoded ({cause_of(error)})") from None
    if queue and last is None:
        raise MediaError("video_unreadable", "no frame can be decoded")
    while queue:
        yield queue.popleft(), last


def _runs(container: Any, index: Index, queue: deque[int]) -> Iterator[tuple[int, Any]]:
    """(number, frame) from each key frame that the queue needs until nothing of its run is in the queue any more."""
    stream = stream_of(container, "video")
    needed = {index.key_of(one) for one in queue}
    at_work, fed, seen = False, -1, -1

    def numbered(frames: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        nonlocal seen
        for frame in frames:
            known = frame.pts if frame.pts is not None else frame.dts
            number = seen + 1 if known is None else int(np.searchsorted(index.ticks, known, side="right")) - 1
            if number > seen:  # else it leans on a run that was left out
                seen = number
                yield number, frame

    for tick, packet in _packets(container, stream):
        number = int(np.searchsorted(index.ticks, tick))
        if packet.is_keyframe and number in needed:
            if not at_work:
                stream.codec_context.flush_buffers()
                seen = number - 1
            at_work, fed = True, number
        if at_work:
            yield from numbered(packet.decode())
            at_work = bool(queue) and index.key_of(queue[0]) <= fed
        if not queue:
            return
    yield from numbered(stream.decode(None))


def _upright(frame: Any, convert: VideoReformatter, stretch: float, shorter: int | None) -> Pixels:
    """RGB as it is shown: pixels as wide as high, turned as the file says."""
    width, height = _size(frame.width * (stretch if 0.1 < stretch < 10 else 1), frame.height, shorter)
    scaling = _SHRINKING if width < frame.width else _SCALING  # in most files two columns share a colour already
    # one thread: the reading threads are parallel already
    rgb = convert.reformat(frame, width, height, "rgb24", interpolation=scaling, threads=1)
    return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), round(frame.rotation / 90) % 4))


def _size(width: float, height: float, shorter: int | None) -> tuple[int, int]:
    """Whole numbers for a size, or for that of the same shape whose shorter side is `shorter`.

    The longer side differs from it by an even number, so that a square in the centre lies on whole pixels.

    >>> _size(85.3, 48, None), _size(640, 480, 300), _size(480, 640, 300), _size(9000, 16, 300)
    ((85, 48), (400, 300), (300, 400), (9000, 16))
    """
    if shorter is None or max(width, height) > _NARROW * min(width, height):
        return max(round(width), 1), round(height)
    margin = round(shorter * (max(width, height) / min(width, height) - 1) / 2)
    longer = shorter + 2 * margin
    return (longer, shorter) if width > height else (shorter, longer)
