from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.encoders import aisfx, lasting
from tasks.encoders.aisfx import FRAMES, LARGEST, LENGTH, STEP, spectrogram
from tasks.encoders.fingerprint import fingerprint
from tasks.encoders.lasting import LastingEncoder
from tasks.encoders.logmel import statistics
from tasks.encoders.mel import filters, mel_power
from tasks.encoders.protocol import Runtime
from tasks.encoders.registry import load, resolve
from tasks.encoders.windows import windows
from tasks.media.audio import Sound, decode
from tasks.media.registry import Limits
from tests.sounds import RATE, Samples, tone, written
from tests.tasks.encoders.parts import OPENVINO, OPENVINO_BF16, TORCH, cosines, damaged, loaded

NUMPY = Runtime("numpy", "float32", "cpu")


def sound(samples: Samples, rate: int = RATE) -> Sound:
    """A decoded WAV."""
    return decode(written(samples, rate=rate, subtype="FLOAT"), Limits())


# windows


@given(st.integers(0, 60), st.integers(1, 20), st.data())
def test_windows_cover_every_sample(count: int, length: int, data: st.DataObject) -> None:
    """Windows start every hop as long as they fit, one more ends where the sound ends if samples are left; a short
    sound is one window. How the sound comes in blocks changes nothing.
    """
    hop = data.draw(st.integers(1, length))
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    samples = np.arange(count, dtype=np.float32)
    blocks = [samples[start:end] for start, end in pairwise([0, *cuts, count])]
    starts = list(range(0, count - length + 1, hop)) if count >= length else [0] * (count > 0)
    if count > length and starts[-1] + length < count:
        starts.append(count - length)
    found = list(windows(blocks, length, hop))
    assert [start for start, _ in found] == starts
    for start, window in found:
        assert window.tolist() == samples[start : start + length].tolist()
    assert {int(one) for _, window in found for one in window} == set(range(count))


# spectrograms


def hertz_of_mel(value: float) -> float:
    """The inverse of HTK's scale, with its natural logarithm: m = 1127·ln(1 + f/700)."""
    return 700.0 * (math.exp(value / 1127.0) - 1.0)


def test_bands_are_triangles_on_the_mel_scale() -> None:
    """Each band rises from the middle of the one before and falls to that of the one after, linearly in mel, and its
    weights sum to 1: by loops over the formula, at aiSFX's size.
    """
    rate, size, bands = 44_100, 2_048, 96
    top = 1127.0 * math.log(1 + rate / 2 / 700.0)
    corners = [hertz_of_mel(top * number / (bands + 1)) for number in range(bands + 2)]
    expected = np.zeros((size // 2 + 1, bands))
    for band in range(bands):
        low, middle, high = corners[band : band + 3]
        for number in range(size // 2 + 1):
            hertz = number * rate / size
            if low < hertz < high:
                at, left, centre, right = (math.log(1 + one / 700.0) for one in (hertz, low, middle, high))
                share = (at - left) / (centre - left) if hertz < middle else (right - at) / (right - centre)
                expected[number, band] = share
        expected[:, band] /= expected[:, band].sum()
    assert np.abs(filters(rate, size, bands, 0.0, rate / 2) - expected).max() < 1e-4  # 2595/ln 10 is 1126.99


def test_bands_without_a_bin_are_refused() -> None:
    """Bands finer than the spectrum are an error, not silent zeros."""
    with pytest.raises(ValueError, match="hold no bin"):
        filters(44_100, 256, 96, 0.0, 22_050.0)


def test_power_is_that_of_the_transform() -> None:
    """A frame's power is the squared modulus of the Fourier sum of its samples under the window, weighted by band."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=96).astype(np.float32)
    found = mel_power(samples, 8_000, size=64, hop=32, bands=4, low=0.0, high=4_000.0)
    weights = filters(8_000, 64, 4, 0.0, 4_000.0)
    assert found.shape == (2, 4)
    for frame in range(2):
        power = np.zeros(33)
        for k in range(33):
            total = 0j
            for n in range(64):
                window = 0.5 - 0.5 * math.cos(2 * math.pi * n / 63)
                total += float(samples[32 * frame + n]) * window * complex(
                    math.cos(2 * math.pi * k * n / 64), -math.sin(2 * math.pi * k * n / 64)
                )  # fmt: skip
            power[k] = abs(total) ** 2
        assert found[frame] == pytest.approx(power @ weights, rel=1e-4)


# logmel


def test_logmel_is_what_it_says() -> None:
    """White noise twice as strong has the same shape and 0.6 bels more in level alone; silence is -10 bels, flat."""
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * 22_050).astype(np.float32)
    once, twice, silent = statistics(noise), statistics(2 * noise), statistics(0 * noise)
    assert once.shape == (193,)
    assert np.abs(twice - once)[:-1].max() < 1e-3
    assert twice[-1] - once[-1] == pytest.approx(2 * math.log10(2), abs=1e-3)
    assert silent[-1] == pytest.approx(-10)
    assert np.abs(silent[:-1]).max() < 1e-6
    band = statistics(tone(1.0, 1_000, 22_050))[:64].argmax()
    weights = filters(22_050, 1_024, 64, 0.0, 11_025.0)
    assert band == weights[round(1_000 * 1_024 / 22_050)].argmax()


@pytest.mark.parametrize("name", ["builtin:logmel", "builtin:aisfx"])
def test_silence_and_shortness_have_vectors(models_dir: Path, name: str) -> None:
    """Silence of any length below a window has one and the same vector, and a single sample has one as well."""
    encoder = load(resolve(name), device="cpu", models_dir=models_dir)
    silent = [sound(np.zeros(count, np.float32)) for count in (44_100, 22_050)]
    inputs = [encoder.transform(one) for one in (*silent, sound(tone(1.0)[:1]))]
    vectors = encoder.encode(inputs).vectors
    assert np.array_equal(vectors[0], vectors[1])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)


# aisfx


def whole_spectrogram(samples: Samples, count: int) -> npt.NDArray[np.float64]:
    """The package's spectrogram `(count, 96)` of a whole sound, in float64, frame by frame from the first sample on."""
    weights = filters(44_100, 2_048, 96, 0.0, 22_050.0).astype(np.float64)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2_048) / 2_047)
    padded = np.concatenate([np.zeros(1_024), samples, np.zeros(1_024 * count)])
    rows = []
    for frame in range(count):
        power = np.abs(np.fft.rfft(padded[1_024 * frame :][:2_048] * window)) ** 2
        rows.append(np.log10(10_000 * (power @ weights) + 1))
    return np.stack(rows) / LARGEST


@pytest.fixture(scope="module")
def bells() -> Samples:
    """A sound of three and a half windows that changes all the time."""
    count = LENGTH - 1_024 + 3 * STEP
    time = np.arange(count) / 44_100
    chirp = np.sin(2 * np.pi * (200 + 300 * time) * time) * np.exp(-(time % 1))
    return (0.4 * chirp + np.random.default_rng(1).normal(0, 0.01, count)).astype(np.float32)


def test_aisfx_reads_the_spectrogram_of_its_package(bells: Samples) -> None:
    """Windows are the package's own blocks (100 frames every 50) of the whole sound's spectrogram."""
    from aisfx.preprocessing import blocking

    spec = resolve("builtin:aisfx")
    expected = blocking(whole_spectrogram(bells, 250), 100, 50, True)
    split = aisfx.Windows(44_100, LENGTH, STEP, lambda one: (spectrogram(one),), lead=1_024)
    parts = list(split(sound(bells)))
    assert [start for start, _ in parts] == pytest.approx([0.0, *((STEP * n - 1_024) / 44_100 for n in (1, 2, 3))])
    assert np.abs(np.stack([one for _, (one,) in parts]) - expected).max() < 1e-4
    assert spec.sampling == f"windows of {LENGTH / 44_100:.2f} s every {STEP / 44_100:.2f} s, mean"
    short = list(split(sound(bells[:30_000])))
    padded = whole_spectrogram(bells[:30_000], 100)  # the package fills up with zeros, which is silence
    assert [one.shape for _, (one,) in short] == [(FRAMES, 96)]
    assert np.abs(short[0][1][0] - padded).max() < 1e-4


def test_aisfx_is_the_network_of_its_package(models_dir: Path, bells: Samples) -> None:
    """The vector is the mean of what the package's whole network (classifiers and all) gives for the blocks."""
    import torch
    from aisfx.models.cnn2d import CrossNet, EmbeddingNet

    spec = resolve("builtin:aisfx")
    (path,) = aisfx.weight_files(spec)
    with torch.serialization.safe_globals(aisfx._harmless()):
        weights, sets = torch.load(path, weights_only=True, map_location="cpu")
    net = CrossNet(EmbeddingNet("max", 3, 1, 64), sets, "cpu")
    net.load_state_dict(weights)
    from aisfx.preprocessing import blocking

    blocks = blocking(whole_spectrogram(bells, 250), 100, 50, True)
    with torch.inference_mode():
        raw = net.eval().get_embedding(torch.Tensor(blocks)).numpy()
    expected = raw.mean(axis=0, keepdims=True)
    for runtime, least in ((TORCH, 0.999999), (OPENVINO, 0.999999), (OPENVINO_BF16, 0.999)):
        encoder = loaded(spec, runtime, models_dir)
        inputs = [encoder.transform(sound(bells))]
        vectors = encoder.encode(inputs).vectors
        assert vectors.min() >= 0
        assert cosines(vectors, expected).min() >= least
        assert cosines(encoder.encode(inputs).parts[0].vectors, raw).min() >= least


def test_damaged_aisfx_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not the pinned one is not read."""
    spec = resolve("builtin:aisfx")
    broken = damaged(aisfx.weight_files(spec)[0], tmp_path / "checkpoint.pth")
    monkeypatch.setattr(aisfx, "weight_files", lambda _: (broken,))
    with pytest.raises(aisfx.EncoderError, match="not the pinned file"):
        loaded(spec, TORCH, tmp_path)


# what lasts


def test_a_sound_that_occurs_once_is_found(models_dir: Path) -> None:
    """Of a minute with one whistle in it, the part most like a whistle alone is one that holds it."""
    rng = np.random.default_rng(3)
    minute = rng.normal(0, 0.05, 60 * RATE).astype(np.float32)
    whistle = tone(1.0, 2_500)
    minute[42 * RATE : 43 * RATE] += whistle
    for name, length in (("builtin:logmel", 5.0), ("builtin:aisfx", LENGTH / RATE)):
        encoder = load(resolve(name), device="cpu", models_dir=models_dir)
        parts, query = encoder.encode(
            [encoder.transform(sound(one)) for one in (minute, rng.normal(0, 0.05, 2 * RATE) + np.tile(whistle, 2))]
        ).parts
        start = parts.starts[(parts.vectors @ query.vectors[0]).argmax()]
        assert start - 1 <= 42 <= start + length
        assert len(parts.starts) == len(parts.vectors)
        assert (np.diff(parts.starts) > 0).all()


def test_long_items_are_streamed(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> None:
    """However few parts wait ahead and however few are encoded together, an item has the same bits; and it can be read
    again.
    """
    long = [sound(tone(seconds, noise=number)) for number, seconds in enumerate((20.0, 3.0, 13.0))]
    usual = loaded(resolve("builtin:logmel"), NUMPY, models_dir)
    expected = usual.encode([usual.transform(one) for one in long]).vectors
    monkeypatch.setattr(lasting, "_AHEAD", 2_000)
    monkeypatch.setattr(lasting, "_AT_ONCE", 1_000)
    inputs = [usual.transform(one) for one in long]
    assert len(inputs[0]._ready) == 3
    for _ in range(3):
        assert np.array_equal(usual.encode(inputs).vectors, expected)


def test_an_item_that_breaks_costs_itself(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> None:
    """A sound that breaks after its first parts were taken comes back with its reason and without parts; its company
    keeps its bits.
    """
    monkeypatch.setattr(lasting, "_AHEAD", 2_000)
    good = [sound(tone(9.0, noise=1)), sound(tone(3.0, noise=2))]
    broken = decode((data := written(tone(60.0), "MP3"))[: len(data) // 2], Limits())
    encoder = loaded(resolve("builtin:logmel"), NUMPY, models_dir)
    vectors, _, failures, parts = encoder.encode([encoder.transform(one) for one in (good[0], broken, good[1])])
    ((place, error),) = failures
    assert (place, error.code) == (1, "audio_truncated")
    assert not vectors[1].any()
    assert np.array_equal(vectors[[0, 2]], encoder.encode([encoder.transform(one) for one in good]).vectors)
    assert [len(one.starts) for one in parts] == [3, 0, 1]


def test_poolings() -> None:
    """Mean is the average of an item's raw parts, max their largest values, attention their average weighted by the
    exponential of ten times the cosine to their mean at unit length, by plain loops; each of length 1.
    """
    rows = np.random.default_rng(0).normal(size=(5, 193)).astype(np.float32)

    def split(_: Any) -> Iterator[lasting.Part]:
        yield from ((float(number), (row,)) for number, row in enumerate(rows))

    def stacked(inputs: Sequence[lasting.Inputs]) -> npt.NDArray[np.float32]:
        return np.stack([one for (one,) in inputs])

    units = [row / np.linalg.norm(row) for row in rows.astype(np.float64)]
    middle = sum(units) / np.linalg.norm(sum(units))
    weights = [math.exp(10 * float(one @ middle)) for one in units]
    attended = sum(weight * row for weight, row in zip(weights, rows, strict=True))
    for pool, raw in (("mean", rows.mean(axis=0)), ("max", rows.max(axis=0)), ("attention", attended)):
        spec = resolve(f"builtin:logmel?pool={pool}")
        encoder = LastingEncoder(spec, NUMPY, "", split, stacked)
        vectors, _, _, (parts,) = encoder.encode([encoder.transform(None)])
        assert vectors[0] == pytest.approx(raw / np.linalg.norm(raw), abs=1e-6)
        assert parts.vectors == pytest.approx(np.stack(units), abs=1e-6)
    marks = {fingerprint(resolve(f"builtin:logmel{more}"), NUMPY) for more in ("", "?pool=max", "?pool=attention")}
    assert len(marks) == 3
    assert fingerprint(resolve("builtin:logmel?pool=mean"), NUMPY) in marks
