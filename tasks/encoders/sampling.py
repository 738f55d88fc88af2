"""Which frames of a video are encoded: policies, from what a clip lasts to the times of its parts' frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # names are resolved without a decoder
    from tasks.media.video import Clip

Times = list[list[float]]
"""For each part, in order, the times in seconds of its frames; ascending throughout."""


class Sampling(Protocol):
    """A policy; its text says all that it depends on, and is part of the fingerprint."""

    def __call__(self, clip: Clip) -> Times:
        """The times of each part's frames."""


@dataclass(frozen=True, slots=True)
class Evenly:
    """`count` single frames, from the middles of equal stretches of time."""

    count: int

    def __call__(self, clip: Clip) -> Times:
        """One frame a part."""
        return [[time] for time in _middles(0.0, clip.seconds, self.count)]

    def __str__(self) -> str:
        """What the policy is.

        >>> str(Evenly(8))
        '8 frames evenly'
        """
        return f"{self.count} frames evenly"


@dataclass(frozen=True, slots=True)
class Every:
    """A single frame every so many seconds, from the first frame on."""

    seconds: float

    def __call__(self, clip: Clip) -> Times:
        """One frame a part; at least one."""
        times: Times = [[0.0]]
        while (following := len(times) * self.seconds) < clip.seconds:
            times.append([following])
        return times

    def __str__(self) -> str:
        """What the policy is."""
        return f"a frame every {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Scenes:
    """A single frame from the middle of each scene; of more than `most` scenes the longest."""

    most: int

    def __call__(self, clip: Clip) -> Times:
        """One frame a part."""
        longest = sorted(clip.scenes(), key=lambda scene: scene[0] - scene[1])[: self.most]
        return [_middles(start, end, 1) for start, end in sorted(longest)]

    def __str__(self) -> str:
        """What the policy is."""
        return f"a frame of each of the {self.most} longest scenes"


@dataclass(frozen=True, slots=True)
class Clips:
    """Up to `count` stretches of `frames` frames, `rate` a second, that do not overlap: in the middles of equal parts.

    Without a rate a stretch's frames are spread over its whole part. A video that is shorter than a stretch gives one;
    its last frame stays to the end.
    """

    count: int
    frames: int
    rate: float | None = None

    def __call__(self, clip: Clip) -> Times:
        """`frames` frames a part."""
        if self.rate is None:
            width = clip.seconds / self.count
            return [_middles(part * width, (part + 1) * width, self.frames) for part in range(self.count)]
        length = self.frames / self.rate
        count = max(1, min(self.count, int(clip.seconds / length)))
        starts = [max(middle - length / 2, 0.0) for (middle,) in Evenly(count)(clip)]
        return [[start + frame / self.rate for frame in range(self.frames)] for start in starts]

    def __str__(self) -> str:
        """What the policy is.

        >>> str(Clips(5, 16, 7.5)), str(Clips(1, 8))
        ('5 clips of 16 frames, 7.5 a second', '1 clips of 8 frames, evenly')
        """
        return f"{self.count} clips of {self.frames} frames, " + (f"{self.rate:g} a second" if self.rate else "evenly")


def _middles(start: float, end: float, count: int) -> list[float]:
    """The middles of `count` equal parts of a stretch of time."""
    return [start + (end - start) * (2 * number + 1) / (2 * count) for number in range(count)]
