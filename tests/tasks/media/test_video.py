from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tasks.media import audio, video
from tasks.media.registry import Limits, MediaError
from tasks.media.video import Clip, decode
from tests.clips import FPS, Pixels, film, filmed, grey, half, moving, number_of, turned
from tests.sounds import muxed, spoiled, tone, written
from tests.tasks.media.test_image import saved

LIMITS = Limits()
KINDS = {
    "mp4": ("mp4", "libx264"),
    "mpeg-4 in mp4": ("mp4", "mpeg4"),
    "webm": ("webm", "libvpx"),
    "mkv": ("matroska", "libx264"),
    "avi": ("avi", "mpeg4"),
    "ts": ("mpegts", "libx264"),
    "mpg": ("mpeg", "mpeg2video"),
    "mov": ("mov", "mjpeg"),
}


def numbers(clip: Clip, times: list[float]) -> list[int]:
    """Which frames are shown at some times."""
    return [number_of(pixels) for pixels in clip.frames(times)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_decoded(kind: str) -> None:
    """Each kind of file says its size and length, and gives every frame at its time."""
    clip = decode(film(50, *KINDS[kind]), LIMITS)
    assert clip.frame_count == 50
    assert next(clip.frames([0.0])).shape == (48, 64, 3)
    assert clip.seconds == pytest.approx(2.0, abs=0.05)
    middles = [(number + 0.5) / FPS for number in range(50)]
    assert numbers(clip, middles) == pytest.approx(list(range(50)), abs=1)  # a lossy grey may be that of its neighbour
    assert numbers(clip, [middles[3], middles[3], middles[40], 99.0]) == pytest.approx([3, 3, 40, 49], abs=1)


def test_a_frame_alone_is_that_of_the_whole() -> None:
    """A frame asked for alone, or with a few others, has the bits that it has when all are decoded."""
    clip = decode(film(50), LIMITS)
    every = list(clip.frames([(number + 0.5) / FPS for number in range(50)]))
    for chosen in ([0], [11, 12], [5, 6, 29, 49], [13, 26], [47]):
        found = list(clip.frames([(number + 0.5) / FPS for number in chosen]))
        assert all(np.array_equal(one, every[number]) for one, number in zip(found, chosen, strict=True))


def test_only_needed_groups_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 50 frames in groups of 10, two that lie in two groups need no others than those before them in these."""
    clip = decode(film(50, group=10, options={"x264-params": "scenecut=0"}), LIMITS)
    seen: list[int] = []
    runs = video._runs

    def watched(*arguments: object) -> object:
        for number, frame in runs(*arguments):  # type: ignore[arg-type]
            seen.append(number)
            yield number, frame

    monkeypatch.setattr(video, "_runs", watched)
    assert numbers(clip, [12.5 / FPS, 41.5 / FPS]) == [12, 41]
    assert seen == [10, 11, 12, 40, 41]


def test_frames_at_irregular_times() -> None:
    """With a variable rate the frame shown at a time is the last that has begun, however long it stays."""
    clip = decode(film(5, times=[0, 40, 1_040, 1_080, 3_000]), LIMITS)
    assert clip.index.times == pytest.approx([0, 0.04, 1.04, 1.08, 3.0], abs=1e-3)
    assert numbers(clip, [0.0, 0.03, 0.5, 1.039, 1.05, 2.9, 3.0]) == [0, 0, 1, 1, 2, 3, 4]


def corner(number: int) -> Pixels:
    """A picture whose upper left corner is white."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:16, :16] = 255 - number
    return pixels


@pytest.mark.parametrize("quarters", range(4))
def test_rotation_flags_are_obeyed(quarters: int) -> None:
    """A video that asks to be turned is given as it is shown: a corner goes round with the clock."""
    clip = decode(turned(moving(3, corner), quarters), LIMITS)
    (pixels,) = clip.frames([0.0])
    assert pixels.shape == ((48, 64, 3) if quarters % 2 == 0 else (64, 48, 3))
    corners = [pixels[:16, :16], pixels[:16, -16:], pixels[-16:, -16:], pixels[-16:, :16]]
    assert [one.mean() > 200 for one in corners] == [place == quarters for place in range(4)]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "mpg"])
def test_pixels_are_made_square(kind: str) -> None:
    """A video whose pixels are a third wider than high, as on a disc, is given a third wider."""
    film_of_corners = filmed([corner(0)] * 3, *KINDS[kind], stretch=Fraction(4, 3))
    clip = decode(film_of_corners, LIMITS)
    (pixels,) = clip.frames([0.0])
    assert pixels.shape == (48, 85, 3)
    bright = pixels[4, :, 0] > 128
    assert bright.sum() == pytest.approx(16 * 4 / 3, abs=2)


@pytest.mark.parametrize("quarters", range(2))
@pytest.mark.parametrize("shorter", [24, 48, 120])
def test_frames_come_in_the_size_asked_for(shorter: int, quarters: int) -> None:
    """Smaller, as they are or larger, turned or not: nearly what Pillow makes of the whole frame, and its square in the
    centre lies on whole pixels.
    """
    soft = np.add.outer(np.arange(90) * 2, np.arange(120)).astype(np.uint8)
    clip = decode(turned(filmed([np.stack([soft[:48, :62]] * 3, 2)] * 2), quarters), LIMITS)
    (whole,), (found,) = clip.frames([0.0]), clip.frames([0.0], shorter)
    height, width = found.shape[:2]
    assert min(height, width) == shorter
    assert (max(height, width) - shorter) % 2 == 0
    assert max(height, width) == pytest.approx(shorter * 62 / 48, abs=1)
    expected = np.asarray(Image.fromarray(whole).resize((width, height), Image.Resampling.BICUBIC))
    assert np.abs(found.astype(int) - expected).mean() < 2


def test_a_smaller_frame_keeps_its_colours() -> None:
    """In a soft picture of all colours, half as large, each column has its own: nearly the one that was filmed."""
    y, x = np.mgrid[:96, :128] / 20
    soft = (128 + 80 * np.sin([x, y, x + y])).transpose(1, 2, 0).astype(np.uint8)
    (found,) = decode(filmed([soft], "matroska", "ffv1"), LIMITS).frames([0.0], 48)
    expected = np.asarray(Image.fromarray(soft).resize((64, 48), Image.Resampling.BICUBIC))
    assert np.abs(found.astype(int) - expected).mean() < 1


def test_scenes_begin_at_cuts() -> None:
    """A new scene begins where the picture changes at once, not where it changes slowly."""
    frames = [grey(n // 10) for n in range(20)] + [np.full((48, 64, 3), 230, np.uint8)] * 15 + [grey(0)] * 5
    clip = decode(filmed(frames), LIMITS)
    assert np.array(clip.scenes()) == pytest.approx(np.array([[0, 20], [20, 35], [35, 40]]) / FPS, abs=1e-3)


def outcome(data: bytes, limits: Limits = LIMITS) -> str:
    """What becomes of a file: ok, or the reason code."""
    try:
        video.inspect(data, limits)
        clip = decode(data, limits)
        times = [clip.seconds * share for share in (0.0, 0.3, 0.6, 1.0)]
        assert len({one.shape for one in clip.frames(times)}) == 1
    except MediaError as error:
        return error.code
    return "ok"


def damaged(data: bytes) -> bytes:
    """The same file with noise in the place of its pictures."""
    at = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    noise = np.random.default_rng(0).integers(0, 256, end - at, np.uint8).tobytes()
    return data[:at] + noise + data[end:]


EARLY = {"movflags": "faststart"}  # the index stands before the pictures
ODD: dict[str, tuple[Callable[[], bytes], str]] = {
    # each with its own outcome; what can be decoded is
    "no byte": (lambda: b"", "file_empty"),
    "words.mp4": (lambda: b"these are words, not a video\n" * 50, "not_video"),
    "playlist.mp4": (lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "not_video"),
    "png named.mp4": (lambda: saved(Image.new("RGB", (64, 48)), "PNG"), "video_is_picture"),
    "jpeg named.mp4": (lambda: saved(Image.new("RGB", (64, 48)), "JPEG"), "video_is_picture"),
    "sound alone.mp4": (lambda: muxed(tone(1.0), "mp4", "aac"), "video_no_stream"),
    "wav named.mp4": (lambda: written(tone(1.0)), "video_no_stream"),
    "one frame.mp4": (lambda: film(1), "ok"),
    "turned.mp4": (lambda: turned(film(10), 1), "ok"),
    "irregular.mp4": (lambda: film(4, times=[0, 40, 900, 3_000]), "ok"),
    "webm named.mp4": (lambda: film(20, "webm", "libvpx"), "ok"),
    "no index.mp4": (lambda: half(film(50)), "video_truncated"),
    "cut.mp4": (lambda: half(film(50, options=EARLY)), "video_truncated"),
    "cut.webm": (lambda: half(film(50, "webm", "libvpx")), "video_truncated"),
    "cut.mkv": (lambda: half(film(50, "matroska")), "video_truncated"),
    "cut.avi": (lambda: half(film(50, "avi", "mpeg4")), "video_truncated"),
    "noise inside.mp4": (lambda: damaged(film(20)), "video_unreadable"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_have_their_own_outcome(name: str) -> None:
    """Each broken file is refused under the reason that fits; each odd one that holds a video is decoded."""
    make, expected = ODD[name]
    assert outcome(make()) == expected


SPOILT = {kind: film(6, *KINDS[kind]) for kind in ("mp4", "webm", "mkv", "avi")}


@given(st.sampled_from(sorted(SPOILT)), st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 255)), max_size=20))
def test_a_spoilt_file_costs_itself(kind: str, places: list[tuple[int, int]]) -> None:
    """Whatever bytes stand in a file, it is decoded or refused with a reason: no other error comes out."""
    try:
        clip = decode(spoiled(SPOILT[kind], places), LIMITS)
        assert len(list(clip.frames([0.0, clip.seconds / 2, clip.seconds]))) == 3
    except MediaError as error:
        assert error.code.startswith(("video_", "not_video"))  # noqa: PT017 - either outcome is allowed


def test_bounds() -> None:
    """A video at the bounds of pixels and seconds passes; beyond either it is refused by its header."""
    data = film(50)
    assert outcome(data, Limits(max_pixels=64 * 48, max_seconds=2.0)) == "ok"
    assert outcome(data, Limits(max_pixels=64 * 48 - 1)) == "video_too_large"
    assert outcome(data, Limits(max_seconds=1.9)) == "video_too_long"


def test_a_video_without_sound_is_no_sound() -> None:
    """A silent film named as a sound says that it holds none."""
    with pytest.raises(MediaError, match="audio_no_stream"):
        audio.inspect(film(10), LIMITS)
