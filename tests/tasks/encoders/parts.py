"""What several tests of the encoders build: runtimes, pictures, texts, tokenizers, cosines."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tasks.encoders.fingerprint import fingerprint
from tasks.encoders.protocol import Encoder, EncoderSpec, Runtime
from tasks.encoders.registry import loader_of
from tasks.media.audio import Sound, decode
from tasks.media.registry import Limits
from tests.sounds import tone, written
from tests.tiny import WORDS

OPENVINO = Runtime("openvino", "float32", "cpu")
OPENVINO_BF16 = Runtime("openvino", "bfloat16", "cpu")
TORCH = Runtime("torch", "float32", "cpu")
TORCH_BF16 = Runtime("torch", "bfloat16", "cpu")

ODD_SIZES = ((37, 53), (53, 37), (100, 101), (61, 61), (33, 200), (255, 256), (40, 32))
"""Heights and widths, none of them a multiple of what models take."""


def loaded(spec: EncoderSpec, runtime: Runtime, models_dir: Path, threads: int = 2) -> Encoder:
    """The encoder on a runtime of the test's choice, whatever this machine would choose."""
    return loader_of(spec)(spec, runtime, fingerprint(spec, runtime), models_dir, threads)


def folder_of(name: str) -> Path:
    """The folder behind a local: name."""
    return Path(name.removeprefix("local:").partition("?")[0])


def scene(height: int, width: int, number: int = 0) -> npt.NDArray[np.uint8]:
    """A picture without symmetry, smooth with some noise; `number` picks another."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin((3 + number) * x / width + c) + np.cos((5 + c + number) * y / height) for c in range(3)]
    noise = np.random.default_rng(number).normal(0, 8, (height, width, 3))
    return np.clip(128 + 55 * np.stack(waves, 2) + noise, 0, 255).astype(np.uint8)


def scenes(count: int) -> list[npt.NDArray[np.uint8]]:
    """Pictures of several odd sizes."""
    sizes = [ODD_SIZES[number % len(ODD_SIZES)] for number in range(count)]
    return [scene(height * 3, width * 3, number) for number, (height, width) in enumerate(sizes)]


def recordings(count: int) -> list[Sound]:
    """Sounds of several lengths, shorter and longer than a window, at several rates."""
    lengths, rates = (0.01, 1.0, 2.4, 3.7, 5.0, 11.0), (44_100, 16_000, 48_000)
    made = []
    for number in range(count):
        rate = rates[number % 3]
        samples = tone(lengths[number % 6], 300 + 100 * number, rate, noise=number)
        made.append(decode(written(samples, rate=rate), Limits()))
    return made


def captions(count: int, seed: int = 0) -> list[str]:
    """Texts of 1 to 300 words, so that every length bucket is used."""
    rng = np.random.default_rng(seed)
    words = [word for word in WORDS if word.isascii() and word.isalpha()]
    longest = (3, 8, 14, 20, 40, 90, 300)
    return [" ".join(rng.choice(words, rng.integers(1, longest[number % 7] + 1))) for number in range(count)]


def cosines(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine of each pair of rows, `(n,)`."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def save_tokenizer(folder: Path, special: tuple[str, str, str, str]) -> dict[str, int]:
    """Save a word tokenizer; `special` are padding, unknown, first and last in the order of their ids."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    unknown = next(word for word in special if "unk" in word.lower())
    first = next(word for word in special if word in ("[CLS]", "<s>"))
    last = next(word for word in special if word in ("[SEP]", "</s>"))
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing((last, vocabulary[last]), (first, vocabulary[first]))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return vocabulary


def damaged(source: Path, target: Path) -> Path:
    """A copy of a file with one bit turned in its middle."""
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    return target


def sha256(path: Path) -> str:
    """Hex digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def start_python(script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A fresh interpreter that runs a script and can import ours."""
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "PYTHONPATH": root, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_python(script: str, *arguments: str, **environment: str) -> str:
    """What such a script prints; fails with its traceback."""
    process = start_python(script, *arguments, **environment)
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out
