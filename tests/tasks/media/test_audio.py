from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.media.audio import decode, inspect
from tasks.media.registry import Limits, MediaError
from tests.sounds import RATE, Samples, muxed, spoiled, tone, written

LIMITS = Limits()


def samples_of(data: bytes, rate: int = RATE) -> Samples:
    """All samples of a file at a rate."""
    return np.concatenate(list(decode(data, LIMITS).blocks(rate)))


def loudest(samples: Samples, rate: int) -> float:
    """Frequency in Hz of the strongest sine."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


FILES: dict[str, Callable[[Samples], bytes]] = {
    "wav": lambda one: written(one, "WAV"),
    "wav of floats": lambda one: written(one, "WAV", subtype="FLOAT"),
    "flac": lambda one: written(one, "FLAC"),
    "vorbis": lambda one: written(one, "OGG", subtype="VORBIS"),
    "opus": lambda one: written(one, "OGG", rate=48_000, subtype="OPUS"),
    "mp3": lambda one: written(one, "MP3"),
    "aiff": lambda one: written(one, "AIFF"),
    "m4a": lambda one: muxed(one, "ipod", "aac"),
    "aac": lambda one: muxed(one, "adts", "aac"),
    "webm": lambda one: muxed(one, "webm", "libopus", rate=48_000),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_is_decoded(kind: str) -> None:
    """Each kind of file gives the samples that were written: at its own rate, of its own length, in the same phase."""
    rate = 48_000 if kind in ("opus", "webm") else RATE
    sound = tone(1.5, 440, rate)
    data = FILES[kind](sound)
    inspect(data, LIMITS)
    found = decode(data, LIMITS)
    assert (found.rate, found.channels) == (rate, 1)
    if kind != "aac":  # a bare stream says nothing of its length
        assert found.seconds == pytest.approx(1.5, abs=0.05)
    samples = samples_of(data, rate)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(len(sound), abs=2_500)  # AAC ends in a whole frame, and starts late when bare
    assert loudest(samples, rate) == pytest.approx(440, abs=1)
    if kind in ("wav", "wav of floats", "flac", "aiff"):
        assert np.abs(samples - sound).max() <= 1 / 32768
    elif kind != "aac":
        middle = slice(5_000, 60_000)
        assert np.corrcoef(samples[middle], sound[middle])[0, 1] > 0.98


def test_channels_are_averaged() -> None:
    """Left and right are averaged: a tone and its negative are silence, one channel alone is half as loud."""
    left = tone(0.5)
    opposed = samples_of(written(np.stack([left, -left], axis=1), subtype="FLOAT"))
    alone = samples_of(written(np.stack([left, 0 * left], axis=1), subtype="FLOAT"))
    assert np.abs(opposed).max() == 0
    assert np.array_equal(alone, left / 2)
    assert decode(written(np.stack([left] * 6, axis=1)), LIMITS).channels == 6


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000, 96_000])
def test_any_rate_becomes_any_other(rate: int) -> None:
    """A tone keeps its pitch, length and loudness at another rate; what a lower rate cannot hold is filtered out."""
    time = np.arange(2 * rate) / rate
    sound = (0.5 * np.sin(2 * np.pi * 1_000 * time)).astype(np.float32)
    samples = samples_of(written(sound, rate=rate, subtype="FLOAT"), 22_050)
    assert len(samples) == pytest.approx(44_100, abs=2)
    assert loudest(samples, 22_050) == pytest.approx(1_000, abs=1)
    assert np.sqrt((samples[2_000:-2_000] ** 2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)
    if rate > 22_050:
        high = (0.5 * np.sin(2 * np.pi * 15_000 * time)).astype(np.float32)
        assert np.abs(samples_of(written(high, rate=rate, subtype="FLOAT"), 22_050)[2_000:-2_000]).max() < 1e-3


def test_a_sound_is_decoded_anew_each_time() -> None:
    """The blocks may be asked for again, and are the same bits; no block is longer than 65,536 samples."""
    found = decode(written(tone(4.0), "FLAC"), LIMITS)
    first, again = list(found.blocks(16_000)), list(found.blocks(16_000))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert max(len(block) for block in found.blocks(RATE)) <= 1 << 16


def outcome(data: bytes, limits: Limits = LIMITS) -> str:
    """What becomes of a file: ok, or the reason code; what the header already shows is found by `inspect` alone."""
    try:
        for _ in decode(data, limits).blocks(16_000):
            pass
    except MediaError as error:
        return error.code
    inspect(data, limits)
    return "ok"


def nan_inside() -> Samples:
    """A tone, one sample of which is no number."""
    samples = tone(1.0)
    samples[20_000] = np.nan
    return samples


def endless(data: bytes) -> bytes:
    """A WAV as it is written to a pipe: its header does not know how long it will be."""
    sizes = struct.pack("<I", 0xFFFFFFFF)
    at = data.index(b"data") + 4
    return data[:4] + sizes + data[8:at] + sizes + data[at + 4 :]


def half(data: bytes) -> bytes:
    """The first half of a file."""
    return data[: len(data) // 2]


ODD: dict[str, tuple[Callable[[], bytes], str]] = {
    # each with its own outcome; what can be decoded is
    "no byte": (lambda: b"", "file_empty"),
    "words.mp3": (lambda: b"these are words, not a sound\n" * 50, "not_audio"),
    "playlist.mp3": (lambda: b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n", "not_audio"),
    "no sample.wav": (lambda: written(tone(1.0)[:0]), "audio_empty"),
    "silence.wav": (lambda: written(0 * tone(1.0)), "ok"),
    "clipped.wav": (lambda: written(np.clip(9 * tone(1.0), -1, 1)), "ok"),
    "beyond full scale.wav": (lambda: written(9 * tone(1.0), subtype="FLOAT"), "ok"),
    "one sample.wav": (lambda: written(tone(1.0)[:1]), "ok"),
    "no number.wav": (lambda: written(nan_inside(), subtype="FLOAT"), "audio_not_finite"),
    "mp3 named.wav": (lambda: written(tone(1.0), "MP3"), "ok"),
    "to a pipe.wav": (lambda: endless(written(tone(1.0))), "ok"),
    "cut.wav": (lambda: half(written(tone(3.0))), "audio_truncated"),
    "cut.aiff": (lambda: half(written(tone(3.0), "AIFF")), "audio_truncated"),
    "cut.flac": (lambda: half(written(tone(3.0), "FLAC")), "audio_truncated"),
    "cut.ogg": (lambda: half(written(tone(3.0), "OGG")), "audio_truncated"),
    "cut.mp3": (lambda: half(written(tone(3.0), "MP3")), "audio_truncated"),
    "cut.m4a": (lambda: half(muxed(tone(3.0), "ipod", "aac")), "audio_truncated"),
    "cut.webm": (lambda: half(muxed(tone(3.0, rate=48_000), "webm", "libopus", rate=48_000)), "audio_truncated"),
    "cut.aac": (lambda: half(muxed(tone(3.0), "adts", "aac")), "audio_truncated"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_have_their_own_outcome(name: str) -> None:
    """Each broken file is refused under the reason that fits; each odd one that holds a sound is decoded."""
    make, expected = ODD[name]
    assert outcome(make()) == expected


SPOILT = {kind: FILES[kind](tone(0.3, 440, 48_000)) for kind in ("wav", "flac", "vorbis", "opus", "m4a", "webm")}


@given(st.sampled_from(sorted(SPOILT)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=20))
def test_a_spoilt_file_costs_itself(kind: str, places: list[tuple[int, int]]) -> None:
    """Whatever bytes stand in a header, the file is decoded or refused with a reason: no other error comes out."""
    try:
        for _ in decode(spoiled(SPOILT[kind], places), LIMITS).blocks(16_000):
            pass
    except MediaError as error:
        assert error.code.startswith(("audio_", "not_audio"))  # noqa: PT017 - either outcome is allowed


def test_too_long() -> None:
    """A sound at the bound passes, a longer one is refused by its header; one without a length while it is read."""
    data = written(tone(2.0))
    assert outcome(data, Limits(max_seconds=2.0)) == "ok"
    assert outcome(data, Limits(max_seconds=1.9)) == "audio_too_long"
    with pytest.raises(MediaError, match="audio_too_long"):
        inspect(data, Limits(max_seconds=1.9))
    assert outcome(muxed(tone(2.0), "adts", "aac"), Limits(max_seconds=1.0)) == "audio_too_long"


def test_hours_are_read_in_blocks() -> None:
    """An hour is decoded and resampled block by block: what is held at once is no longer than some seconds."""
    import tracemalloc

    quiet = written(np.zeros(3_600 * 8_000, np.int16), "FLAC", rate=8_000)
    tracemalloc.start()
    count = sum(len(block) for block in decode(quiet, LIMITS).blocks(16_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 3_600 * 16_000
    assert peak < 8e6  # bytes; as one array it would be 230 million
