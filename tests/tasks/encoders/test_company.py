from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.encoders import aisfx, image_encoder
from tasks.encoders.protocol import TOKENS, Array, Encoder, Runtime
from tasks.encoders.registry import load, resolve
from tests.tasks.encoders.parts import (
    OPENVINO,
    OPENVINO_BF16,
    TORCH,
    TORCH_BF16,
    captions,
    loaded,
    recordings,
    scenes,
)

EVERY_RUNTIME = pytest.mark.parametrize("runtime", [OPENVINO, OPENVINO_BF16, TORCH, TORCH_BF16], ids=str)


def assert_company_is_nothing(encoder: Encoder, inputs: Sequence[Any], alone: int = 7) -> Array:
    """All inputs together, in another order, by twos and (`alone` of them) alone: the same bits."""
    together = encoder.encode(inputs).vectors
    order = np.random.default_rng(1).permutation(len(inputs))
    shuffled = np.empty_like(together)
    shuffled[order] = encoder.encode([inputs[place] for place in order]).vectors
    assert np.array_equal(shuffled, together)
    for place in range(0, len(inputs), max(len(inputs) // alone, 1)):
        assert np.array_equal(encoder.encode([inputs[place]]).vectors[0], together[place])
        pair = encoder.encode([inputs[-1 - place], inputs[place]]).vectors
        assert np.array_equal(pair, together[[len(inputs) - 1 - place, place]])
    return together


def differ(vectors: Array) -> bool:
    """No two rows are alike, so that equal bits above are no accident."""
    return len(np.unique(vectors, axis=0)) == len(vectors)


PACKAGED = (
    "builtin:minilm",
    "builtin:efficientnet-lite0",
    "builtin:efficientnet-lite2",
    "builtin:efficientnet-lite0-stages",
    "builtin:logmel",
    "builtin:aisfx",
)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_encoders(models_dir: Path, name: str) -> None:
    """An item alone, in a batch, in another order and among long ones: the same bits, on the runtime chosen here."""
    spec = resolve(name)
    encoder = load(spec, device="cpu", models_dir=models_dir)
    if spec.modality == "text":
        inputs: list[Any] = [*captions(28), "", "黑猫", "x" * 900]
    elif spec.modality == "audio":
        inputs = [encoder.transform(one) for one in recordings(6)]
    else:
        inputs = [encoder.transform(one) for one in scenes(6)]
    assert differ(assert_company_is_nothing(encoder, inputs))


@pytest.mark.parametrize("runtime", [OPENVINO, OPENVINO_BF16, TORCH], ids=str)
def test_minilm_on_each_runtime(models_dir: Path, runtime: Runtime) -> None:
    """The law does not hang on the runtime that this machine happens to choose for MiniLM."""
    encoder = loaded(resolve("builtin:minilm"), runtime, models_dir)
    assert_company_is_nothing(encoder, captions(10), alone=2)


@pytest.mark.parametrize("name", ["builtin:minilm#tokens", "builtin:efficientnet-lite0#tokens"])
def test_tokens_of_packaged_encoders(models_dir: Path, name: str) -> None:
    """The same law for tokens, whose vectors hold the first 32 of a text and 16 patches of a picture."""
    spec = resolve(name)
    encoder = load(spec, device="cpu", models_dir=models_dir)
    if spec.modality == "text":
        inputs: list[Any] = [*captions(14), "", "黑猫", "x" * 900]
    else:
        inputs = [encoder.transform(one) for one in scenes(6)]
    assert differ(assert_company_is_nothing(encoder, inputs))


@EVERY_RUNTIME
@pytest.mark.parametrize("kind", ["text", "image"])
def test_tokens_of_tiny_models(models_dir: Path, tiny: dict[str, str], runtime: Runtime, kind: str) -> None:
    """The same law for the tokens of a local BERT and ViT, on every runtime and in both precisions."""
    encoder = loaded(resolve(tiny[kind] + TOKENS), runtime, models_dir)
    inputs = captions(14) if kind == "text" else [encoder.transform(one) for one in scenes(7)]
    assert_company_is_nothing(encoder, inputs)


@EVERY_RUNTIME
def test_tiny_bert(models_dir: Path, tiny: dict[str, str], runtime: Runtime) -> None:
    """A local BERT obeys the law on every runtime and in both precisions, in all length buckets."""
    encoder = loaded(resolve(tiny["text"]), runtime, models_dir)
    assert_company_is_nothing(encoder, captions(28), alone=14)


@EVERY_RUNTIME
def test_tiny_vit(models_dir: Path, tiny: dict[str, str], runtime: Runtime) -> None:
    """A local ViT obeys the law on every runtime and in both precisions."""
    encoder = loaded(resolve(tiny["image"]), runtime, models_dir)
    inputs = [encoder.transform(one) for one in scenes(19)]
    assert differ(assert_company_is_nothing(encoder, inputs, alone=9))


@pytest.mark.parametrize("name", ["builtin:efficientnet-lite0", "image"])
def test_rows_of_a_batch(models_dir: Path, tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In fp32 on OpenVINO batches of 1, 4 and 16 pictures give the same bits: the rows are no part of a fingerprint."""
    spec = resolve(tiny.get(name, name))
    vectors = []
    for rows in (1, 4, 16):
        monkeypatch.setattr(image_encoder, "rows_of_images", lambda _, rows=rows: rows)
        encoder = loaded(spec, OPENVINO, models_dir)
        vectors.append(encoder.encode([encoder.transform(one) for one in scenes(6)]).vectors)
    assert differ(vectors[0])
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])


def test_rows_of_a_batch_of_sounds(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32 on OpenVINO batches of 1, 4 and 16 windows give the same bits too."""
    spec = resolve("builtin:aisfx")
    vectors = []
    for rows in (1, 4, 16):
        monkeypatch.setattr(aisfx, "rows_of_parts", lambda *_, rows=rows: rows)
        encoder = loaded(spec, OPENVINO, models_dir)
        vectors.append(encoder.encode([encoder.transform(one) for one in recordings(4)]).vectors)
    assert differ(vectors[0])
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[0], vectors[2])


@pytest.mark.parametrize("runtime", [OPENVINO, OPENVINO_BF16], ids=str)
@pytest.mark.parametrize("name", ["builtin:minilm", "builtin:efficientnet-lite0", "builtin:aisfx"])
def test_number_of_cores(models_dir: Path, name: str, runtime: Runtime) -> None:
    """On OpenVINO one core and two give the same bits, for a batch is computed by one core alone."""
    spec = resolve(name)
    one, two = (loaded(spec, runtime, models_dir, threads) for threads in (1, 2))
    contents: list[Any] = {"text": captions(14), "image": scenes(5), "audio": recordings(3)}[spec.modality]
    inputs = [one.transform(content) for content in contents]
    assert np.array_equal(one.encode(inputs).vectors, two.encode(inputs).vectors)


@pytest.mark.parametrize("kind", ["text", "image"])
def test_nothing_to_encode(models_dir: Path, tiny: dict[str, str], kind: str) -> None:
    """No inputs give no vectors, of the encoder's width."""
    encoder = load(resolve(tiny[kind]), device="cpu", models_dir=models_dir)
    vectors, truncated, *_ = encoder.encode([])
    assert (vectors.shape, vectors.dtype, truncated.shape) == ((0, 32), np.float32, (0,))
