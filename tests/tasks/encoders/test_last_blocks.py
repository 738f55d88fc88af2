from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tasks.encoders.last_blocks import LastBlocks
from tasks.encoders.origin import Origin, read_origin
from tasks.encoders.protocol import EncoderError
from tasks.encoders.registry import resolve
from tasks.encoders.sentence import model_folder
from tasks.encoders.states import states_of
from tasks.encoders.tokens import Tokens
from tests.tasks.encoders.parts import OPENVINO, OPENVINO_BF16, TORCH, captions, cosines, folder_of, loaded
from tests.tasks.encoders.test_sentence import packaged, save_mpnet

TEXTS = captions(30)


def tokens_of(folder: Path, limit: int = 64) -> list[list[int]]:
    """Token ids of the texts."""
    return Tokens(folder / "tokenizer.json", limit, 0)(TEXTS)[0]


def moved(folder: Path, pooling: str = "mean") -> LastBlocks:
    """The last block of a model after a few steps away from where it was."""
    model = LastBlocks(folder, 1, pooling)  # type: ignore[arg-type]
    torch.manual_seed(0)
    for value in model.parameters():
        value.data += 0.3 * torch.randn_like(value)
    return model


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_both_parts_together_are_the_model(tiny: dict[str, str], models_dir: Path, pooling: str) -> None:
    """Cut in two and joined again, a model gives the vectors that it gave whole; only the last block has gradients."""
    name = tiny["text"].replace("mean", pooling)
    folder = folder_of(name)
    model = LastBlocks(folder, 1, pooling)  # type: ignore[arg-type]
    whole = loaded(resolve(name), TORCH, models_dir).encode(TEXTS).vectors
    with states_of(model, tokens_of(folder)) as states:
        assert cosines(states.encoded(), whole).min() > 0.999
        rows = np.array([7, 3, 29])
        np.testing.assert_allclose(states.pooled(rows).detach(), states.encoded()[rows], atol=2e-2)
        states.pooled(rows).sum().backward()
    named = load_file(str(folder / "model.safetensors"))
    last = {key: one for key, one in named.items() if key.startswith("encoder.layer.1.")}
    assert sorted(one.shape for one in last.values()) == sorted(tuple(one.shape) for one in model.parameters())
    assert all(one.grad is not None for one in model.parameters())


@pytest.mark.parametrize("runtime", [OPENVINO, OPENVINO_BF16, TORCH], ids=str)
def test_a_saved_model_gives_the_vectors_of_the_trained_one(
    tiny: dict[str, str], models_dir: Path, tmp_path: Path, runtime: object
) -> None:
    """Read as any local encoder, what was saved is what was trained, on every runtime, under another fingerprint; all
    but the last block is bit for bit as it was.
    """
    folder = folder_of(tiny["text"])
    model = moved(folder)
    model.save(tmp_path)
    spec = resolve(f"local:{tmp_path}")
    assert spec.revision != resolve(tiny["text"]).revision
    vectors = loaded(spec, runtime, models_dir).encode(TEXTS).vectors  # type: ignore[arg-type]
    with states_of(model, tokens_of(folder)) as states:
        assert cosines(states.encoded(), vectors).min() > 0.999
    before, after = (load_file(str(one / "model.safetensors")) for one in (folder, tmp_path))
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


@pytest.mark.parametrize("kind", ["minilm", "mpnet"])
def test_minilm_and_an_mpnet_can_be_cut(models_dir: Path, tmp_path: Path, kind: str) -> None:
    """MiniLM and a tiny MPNet, whose blocks share a bias of positions, are what they were when cut, saved and read."""
    spec = packaged("builtin:minilm") if kind == "minilm" else resolve(f"local:{save_mpnet(tmp_path / 'tiny')}")
    with model_folder(spec, models_dir) as folder:
        model = LastBlocks(folder, 2, spec.pooling)
        with states_of(model, tokens_of(folder, 300)) as states:
            mine = states.encoded()
        model.save(tmp_path)
    assert cosines(mine, loaded(resolve(f"local:{tmp_path}"), TORCH, models_dir).encode(TEXTS).vectors).min() > 0.999


def test_what_cannot_be_cut_is_refused(tiny: dict[str, str], tmp_path: Path) -> None:
    """No block left below, none to train, or a model of another kind: an error that says so."""
    folder = folder_of(tiny["text"])
    for count in (0, 2, 5):
        with pytest.raises(EncoderError, match="2 blocks"):
            LastBlocks(folder, count, "mean")
    shutil.copytree(folder, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"model_type": "distilbert"}))
    with pytest.raises(EncoderError, match="no BERT or MPNet"):
        LastBlocks(tmp_path / "other", 1, "mean")


def test_an_encoder_says_what_it_has_seen(tiny: dict[str, str], tmp_path: Path) -> None:
    """modalign.json gives licence, languages and what was seen, nothing of the fingerprint; a wrong one is named."""
    shutil.copytree(folder_of(tiny["text"]), tmp_path / "model")
    name = f"local:{tmp_path / 'model'}"
    plain = resolve(name)
    origin = Origin(
        base="builtin:minilm", licence="MIT", seen="cats", languages=("en",), how={"steps": 3, "after": 1.5}
    )
    origin.save(tmp_path / "model")
    assert read_origin(tmp_path / "model") == origin
    spec = resolve(name)
    assert (spec.licence, spec.seen, spec.languages) == ("MIT", "cats", ("en",))
    assert resolve(f"{name}?licence=own").licence == "own"
    assert (spec.revision, spec.dim, spec.loader) == (plain.revision, plain.dim, plain.loader)
    for wrong in ("[]", '{"base": ""}', origin.model_dump_json()[:-1] + ', "more": 1}', "no json"):
        (tmp_path / "model" / "modalign.json").write_text(wrong)
        with pytest.raises(EncoderError, match=r"modalign.json is not of the known form"):
            resolve(name)
