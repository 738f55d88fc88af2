from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.encoders.registry import load, resolve
from tests.sounds import Samples, tone, written
from tests.tiny import COLOURS

RATE = 8_000
PITCHES = dict(zip(COLOURS, (300, 600, 1_100, 1_900, 3_000), strict=True))
CLIPS = 6
"""Short ones of each colour, of each modality."""
WHISTLE, RED = 77 * 60 + 20, 13 * 60 + 20
"""Seconds at which the only whistle of two hours and the only red frames of 20 minutes begin; two and five seconds."""
WINDOW, HOP, EVERY = 5.0, 2.5, 2.0
FPS = 2


def noise(seconds: float, seed: int) -> Samples:
    """White noise."""
    return np.random.default_rng(seed).normal(0, 0.03, round(seconds * RATE)).astype(np.float32)


def short_sound(colour: str, seed: int) -> bytes:
    """Five seconds of noise with a tone of two."""
    samples = noise(WINDOW, seed)
    start = RATE * (seed % 4) // 2
    samples[start : start + 2 * RATE] += tone(2.0, PITCHES[colour], RATE, noise=seed)
    return written(samples, rate=RATE, subtype="PCM_U8")


def two_hours(path: Path) -> None:
    """A recording of noise, the same in each minute, with one whistle in it."""
    import soundfile

    minute = noise(60, 0)
    with soundfile.SoundFile(path, "w", RATE, 1, format="WAV", subtype="PCM_U8") as file:
        for number in range(120):
            block = minute.copy()
            if number == WHISTLE // 60:
                start = WHISTLE % 60 * RATE
                block[start : start + 2 * RATE] += tone(2.0, PITCHES["black"], RATE)
            file.write(block)


def film(path: Path, colours: Iterator[tuple[int, int, int]]) -> None:
    """A video of plain frames, two a second."""
    import av

    rng = np.random.default_rng(0)
    grain = [rng.integers(-8, 9, (32, 32, 3)) for _ in range(7)]
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for number, colour in enumerate(colours):
            pixels = np.clip(np.array(colour) + grain[number % 7], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def twenty_minutes() -> Iterator[tuple[int, int, int]]:
    """A grey wall, and once something red."""
    for number in range(20 * 60 * FPS):
        yield COLOURS["red"] if RED <= number / FPS < RED + 5 else (128, 128, 128)


@pytest.mark.slow
def test_hours_in_bounded_memory(tiny_encoders: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    """Two hours of sound and 20 minutes of video are encoded, projected and searched in less than 1.5 GB; a clip of
    what occurs in them once finds the recording among short clips, and where in it: within a window of the sound,
    within a step of the frames.
    """
    folder = tmp_path / "recordings"
    folder.mkdir()
    rows = []
    for colour, rgb in COLOURS.items():
        for number in range(CLIPS):
            (folder / f"{colour}{number}.wav").write_bytes(short_sound(colour, number))
            film(folder / f"{colour}{number}.mp4", iter([rgb] * (3 + number)))
            said = {"caption": f"a {colour} circle", "split": "train"}
            rows += [said | {"file_name": f"{colour}{number}.{kind}"} for kind in ("wav", "mp4")]
    two_hours(folder / "long.wav")
    film(folder / "long.mp4", twenty_minutes())
    rows += [{"file_name": f"long.{kind}", "split": "test", "caption": "long"} for kind in ("wav", "mp4")]
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    queries = {"audio": str(tmp_path / "query.wav"), "video": str(tmp_path / "query.mp4")}
    Path(queries["audio"]).write_bytes(short_sound("black", 99))
    film(Path(queries["video"]), iter([COLOURS["red"]] * 4))
    video = f"frames:{tiny_encoders['image'][0]}&every={EVERY:g}"
    load(
        resolve(video), device="cpu", models_dir=tmp_path / "workspace" / "models"
    )  # converted by torch, with its memory
    encoders = {"audio": ["builtin:logmel"], "video": [video], "text": list(tiny_encoders["text"])}
    done = subprocess.run(
        [sys.executable, "-m", "tests.tasks.hours", str(folder), json.dumps(encoders), json.dumps(queries)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    told = json.loads(done.stdout)
    assert told["peak"] < 1.5e9
    windows = 1 + (2 * 3_600 - WINDOW) / HOP
    frames = 20 * 60 / EVERY
    assert told["audio"]["parts"] == len(COLOURS) * CLIPS + windows
    assert told["video"]["parts"] == frames + sum(len(COLOURS) * -(-(3 + n) // (EVERY * FPS)) for n in range(CLIPS))
    heard, seen = (dict(told[modality]["hits"]) for modality in ("audio", "video"))
    assert WHISTLE - WINDOW < heard["long.wav"] < WHISTLE + 2
    assert RED - EVERY < seen["long.mp4"] < RED + 5
