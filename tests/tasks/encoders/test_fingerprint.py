from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.encoders import fingerprint as module
from tasks.encoders import shapes
from tasks.encoders.fingerprint import PREPROCESSING, fingerprint
from tasks.encoders.registry import SPECS, expected_fingerprint, load, resolve
from tasks.media.registry import MEDIA
from tests.tasks.encoders.parts import OPENVINO, OPENVINO_BF16, TORCH, TORCH_BF16, run_python

TEXT, IMAGE = SPECS["builtin:minilm"], SPECS["builtin:efficientnet-lite0"]


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "sha256:0"},
        {"pooling": "cls"},
        {"normalise": False},
        {"max_tokens": 128},
        {"loader": "tasks.encoders.automodel:load_text"},
        {"dim": 383},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_vectors_changes_it(change: dict[str, Any]) -> None:
    """Another revision, pooling, normalisation, token limit, loader or width is another fingerprint."""
    assert fingerprint(replace(TEXT, **change), OPENVINO) != fingerprint(TEXT, OPENVINO)


@pytest.mark.parametrize(
    "change",
    [{"name": "local:elsewhere"}, {"source": "/elsewhere"}, {"licence": "MIT"}, {"seen": "x"}, {"languages": ("zh",)}],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_no_vector_keeps_it(change: dict[str, Any]) -> None:
    """A name, a place, a licence or a remark alone changes nothing: a moved folder keeps its vectors."""
    assert fingerprint(replace(TEXT, **change), OPENVINO) == fingerprint(TEXT, OPENVINO)


@pytest.mark.parametrize("spec", [TEXT, IMAGE], ids=["text", "image"])
def test_runtime_and_dtype_change_it(spec: Any) -> None:
    """Each runtime, precision and device has its own fingerprint: their bits differ."""
    runtimes = (OPENVINO, OPENVINO_BF16, TORCH, TORCH_BF16, replace(TORCH_BF16, device="cuda"))
    marks = {fingerprint(spec, runtime) for runtime in runtimes}
    assert len(marks) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", mark) for mark in marks)


@pytest.mark.parametrize("spec", [TEXT, IMAGE], ids=["text", "image"])
def test_versions_of_our_own_code_change_it(monkeypatch: pytest.MonkeyPatch, spec: Any) -> None:
    """A new version of the decoder, of the preprocessing, or of the runtime's library is another fingerprint, and only
    for the modality it concerns.
    """
    other = IMAGE if spec is TEXT else TEXT
    before, beside = fingerprint(spec, OPENVINO), fingerprint(other, OPENVINO)
    with monkeypatch.context() as patch:
        medium = MEDIA[spec.modality]
        patch.setitem(MEDIA, spec.modality, replace(medium, version=medium.version + 1))
        decoded = fingerprint(spec, OPENVINO)
        assert fingerprint(other, OPENVINO) == beside
    with monkeypatch.context() as patch:
        patch.setitem(PREPROCESSING, spec.modality, PREPROCESSING[spec.modality] + 1)
        prepared = fingerprint(spec, OPENVINO)
        assert fingerprint(other, OPENVINO) == beside
    with monkeypatch.context() as patch:
        patch.setattr(module, "release", lambda _: "2099.1")
        released = fingerprint(spec, OPENVINO)
    assert len({before, decoded, prepared, released}) == 4
    assert fingerprint(spec, OPENVINO) == before


def test_batch_shapes_change_it_for_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts' fixed batch shapes are part of it; pictures have none, for rows do not change a convolution's bits."""
    text, image = fingerprint(TEXT, OPENVINO), fingerprint(IMAGE, OPENVINO)
    monkeypatch.setitem(shapes._TOKENS, "openvino float32", 4_096)
    monkeypatch.setattr(shapes, "has_amx", lambda: True)
    assert fingerprint(TEXT, OPENVINO) != text
    assert fingerprint(IMAGE, OPENVINO) == image


@pytest.mark.parametrize("kind", ["text", "image"])
def test_expected_is_loaded(models_dir: Path, tiny: dict[str, str], kind: str) -> None:
    """What is expected without loading anything is what the loaded encoder bears."""
    spec = resolve(tiny[kind])
    assert load(spec, device="cpu", models_dir=models_dir).fingerprint == expected_fingerprint(spec, device="cpu")


def test_it_is_stable_across_processes(tiny: dict[str, str]) -> None:
    """Another process, with another hash seed, expects the same fingerprints, and imports no framework to say so."""
    names = [*SPECS, tiny["text"], tiny["image"], "torchvision:ResNet50_Weights.IMAGENET1K_V2"]
    script = (
        "import json, sys\n"
        "from tasks.encoders.registry import expected_fingerprint, resolve\n"
        "marks = [expected_fingerprint(resolve(name), device='cpu') for name in json.loads(sys.argv[1])]\n"
        "heavy = sorted({'torch', 'openvino', 'transformers', 'torchvision'} & sys.modules.keys())\n"
        "print(json.dumps([marks, heavy]))\n"
    )
    for seed in ("1", "2"):
        marks, heavy = json.loads(run_python(script, json.dumps(names), PYTHONHASHSEED=seed))
        assert marks == [expected_fingerprint(resolve(name), device="cpu") for name in names]
        assert len(set(marks)) == len(names)
        assert heavy == []
