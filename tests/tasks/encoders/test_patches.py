from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.encoders.patches import patches
from tasks.encoders.protocol import TOKENS, EncoderError, Runtime, slug
from tasks.encoders.registry import load, resolve
from tests.tasks.encoders.parts import OPENVINO, TORCH, captions, cosines, loaded, scenes


def tokens_of(name: str, contents: list, models_dir: Path, runtime: Runtime) -> np.ndarray:
    """The tokens (n, t, d) of contents as float32."""
    encoder = loaded(resolve(name + TOKENS), runtime, models_dir)
    made = encoder.encode([encoder.transform(one) for one in contents]).vectors
    assert made.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(made.astype(np.float32), axis=1), 1, atol=1e-3)
    return made.astype(np.float32).reshape(len(made), encoder.spec.tokens, -1)


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
def test_the_mean_of_a_texts_tokens_is_its_vector(models_dir: Path, tiny: dict[str, str], runtime: Runtime) -> None:
    """A text shorter than 32 tokens has as many as the tokenizer says, and zeros behind; they point to its vector."""
    encoder = loaded(resolve(tiny["text"]), runtime, models_dir)
    lengths = [len(one) for one in encoder.tokens(captions(28))[0]]  # type: ignore[attr-defined]
    made = tokens_of(tiny["text"], captions(28), models_dir, runtime)
    there = made.any(2)
    assert there.sum(1).tolist() == [min(length, 32) for length in lengths]
    assert there.sum(1).max() == 32 > there.sum(1).min()
    assert all(there[row, :length].all() for row, length in enumerate(there.sum(1)))
    short = np.array(lengths) <= 32
    assert cosines(made.sum(1)[short], encoder.encode(captions(28)).vectors[short]).min() > 0.9999


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
def test_the_mean_of_a_pictures_patches_is_its_vector(models_dir: Path, tiny: dict[str, str], runtime: Runtime) -> None:
    """A ViT's patches, averaged over equal parts of the picture, point to the mean that it pools them to."""
    name = tiny["image"].partition("?")[0]
    made = tokens_of(name, scenes(5), models_dir, runtime)
    encoder = loaded(resolve(f"{name}?pooling=mean"), runtime, models_dir)
    vectors = encoder.encode([encoder.transform(one) for one in scenes(5)]).vectors
    assert made.shape[1] == 16
    assert cosines(made.sum(1), vectors).min() > 0.999


def test_patches_are_means_over_a_grid() -> None:
    """A cell of the 4 × 4 grid is the mean from the floor of its start to the ceiling of its end, cells row by row."""
    maps = torch.arange(2 * 3 * 9 * 10, dtype=torch.float32).reshape(2, 3, 9, 10) ** 1.5
    made = patches(maps).numpy().reshape(2, 4, 4, 3)
    for row in range(4):
        for column in range(4):
            cell = maps[
                :,
                :,
                row * 9 // 4 : math.ceil((row + 1) * 9 / 4),
                column * 10 // 4 : math.ceil((column + 1) * 10 / 4),
            ]
            np.testing.assert_allclose(made[:, row, column], cell.mean((2, 3)).numpy(), rtol=1e-5)


def test_tokens_are_an_encoder_of_their_own() -> None:
    """Their fingerprint and width are others than the vector's, their slug is the same; not every encoder has some."""
    spec, whole = resolve("builtin:minilm#tokens"), resolve("builtin:minilm")
    assert (spec.tokens, spec.dim, spec.max_tokens) == (32, 32 * 384, whole.max_tokens)
    assert slug(spec) == slug(whole) == "minilm"
    assert whole.tokens == 0
    with pytest.raises(EncoderError, match="gives no tokens"):
        resolve("torchvision:ResNet50_Weights.IMAGENET1K_V2#tokens")
    with pytest.raises(EncoderError, match="not image"):
        resolve("builtin:minilm#tokens", "image")


def test_nothing_gives_no_tokens(models_dir: Path, tiny: dict[str, str]) -> None:
    """No inputs give no tokens, of the whole width."""
    for name in tiny.values():
        encoder = load(resolve(name + TOKENS), device="cpu", models_dir=models_dir)
        assert encoder.encode([]).vectors.shape == (0, encoder.spec.dim)
