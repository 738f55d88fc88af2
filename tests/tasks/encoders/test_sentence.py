from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.encoders import sentence
from tasks.encoders.bert_graph import build, relative_buckets, safetensors_reader
from tasks.encoders.packages import weight_files
from tasks.encoders.protocol import Array, EncoderError, EncoderSpec, Runtime
from tasks.encoders.registry import SPECS, resolve
from tests.tasks.encoders.parts import (
    OPENVINO,
    OPENVINO_BF16,
    TORCH,
    captions,
    cosines,
    damaged,
    loaded,
    save_tokenizer,
)

TEXTS = [
    "a cat",
    "A man in a red shirt climbs a rock wall, while two others watch him from below.",
    " ".join(f"word {number}, and then" for number in range(30)),
    "the long story of a dog " * 120,
    "",
    " ",
    "!",
    "x" * 900,
    "一只黑猫坐在红色的沙发上",
    "café — naïve ☕ 😀",
]


def oracle(folder: Path, texts: list[str], max_tokens: int, pooling: str = "mean") -> Array:
    """AutoModel of transformers in fp32, one text at a time (no padding), pooled by hand: `(n, d)`."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    with torch.inference_mode():
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            hidden = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
            rows.append((hidden.mean(0) if pooling == "mean" else hidden[0]).numpy())
    return np.stack(rows)


def packaged(name: str) -> EncoderSpec:
    """The spec of a builtin encoder; skips where its packages are not installed."""
    try:
        weight_files(SPECS[name])
    except EncoderError as error:
        pytest.skip(str(error))
    return SPECS[name]


def widened(model: Any) -> Any:
    """The model with parameters about as large as trained ones: a forgotten bias or another activation shows."""
    import torch

    for value in model.parameters():
        torch.nn.init.normal_(value, mean=float(value.detach().mean()), std=0.3)
    return model.eval()


def save_bert(folder: Path, **other: Any) -> Path:
    """A tiny random BERT with its tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    vocabulary = save_tokenizer(folder, ("[PAD]", "[UNK]", "[CLS]", "[SEP]"))
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=40, layer_norm_eps=1e-2, **other,
    )  # fmt: skip
    widened(BertModel(config)).save_pretrained(folder)
    return folder


def save_mpnet(folder: Path) -> Path:
    """A tiny random MPNet with its tokenizer, long enough for all kinds of relative positions."""
    import torch
    from transformers import MPNetConfig, MPNetModel

    torch.manual_seed(2)
    vocabulary = save_tokenizer(folder, ("<s>", "<pad>", "</s>", "[UNK]"))
    config = MPNetConfig(
        vocab_size=len(vocabulary), hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=302, pad_token_id=1,
    )  # fmt: skip
    widened(MPNetModel(config)).save_pretrained(folder)
    return folder


def test_minilm_is_transformers_mean_pooling(models_dir: Path) -> None:
    """MiniLM through our own graph is the masked mean of transformers' AutoModel in fp32, on short, long, truncated,
    empty and Chinese texts; so is the torch runtime, and bf16 comes near.
    """
    spec = resolve("builtin:minilm")
    expected = oracle(weight_files(spec)[0].parent, TEXTS, 256)
    assert cosines(loaded(spec, OPENVINO, models_dir).encode(TEXTS).vectors, expected).min() >= 0.99999
    assert cosines(loaded(spec, TORCH, models_dir).encode(TEXTS).vectors, expected).min() >= 0.99999
    assert cosines(loaded(spec, OPENVINO_BF16, models_dir).encode(TEXTS).vectors, expected).min() >= 0.999


def test_tokens_are_those_of_the_models_own_tokenizer(models_dir: Path) -> None:
    """MiniLM's texts are cut into the ids that transformers' AutoTokenizer gives, truncation included."""
    from transformers import AutoTokenizer

    spec = resolve("builtin:minilm")
    tokenizer = AutoTokenizer.from_pretrained(weight_files(spec)[0].parent)
    with sentence.model_folder(spec, models_dir) as folder:
        ids, _ = sentence._tokens(spec, folder)(TEXTS)
    assert ids == tokenizer(TEXTS, truncation=True, max_length=256)["input_ids"]


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("save", [save_bert, save_mpnet])
def test_tiny_models_are_transformers(tmp_path: Path, save: Any, pooling: str, runtime: Runtime) -> None:
    """Random BERT and MPNet configurations, pooled by mean or first token, equal transformers in fp32."""
    folder = save(tmp_path / "model")
    spec = resolve(f"local:{folder}?pooling={pooling}")
    assert spec.loader == "tasks.encoders.sentence:load"
    texts = [*captions(21), "", "猫"]
    expected = oracle(folder, texts, spec.max_tokens or 0, pooling)
    vectors = loaded(spec, runtime, tmp_path / "models").encode(texts).vectors
    assert cosines(vectors, expected).min() >= 0.99999
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(vectors - units).max() < 2e-5
    assert np.abs(units - units.mean(0)).max() > 100 * 2e-5  # the texts do differ by more than the bound


@pytest.mark.slow
def test_mpnet_is_transformers_mean_pooling(tmp_path: Path) -> None:
    """The packaged MPNet, joined from its five pieces, is the masked mean of transformers' AutoModel in fp32."""
    spec = packaged("builtin:mpnet")
    texts = TEXTS[:5] + TEXTS[-2:]
    with sentence.model_folder(spec, tmp_path) as folder:
        expected = oracle(folder, texts, 384)
    vectors = loaded(spec, OPENVINO, tmp_path).encode(texts).vectors
    assert vectors.shape == (len(texts), 768)
    assert cosines(vectors, expected).min() >= 0.99999
    assert not list(tmp_path.glob(".unpack-*"))


def test_cut_texts_are_marked(models_dir: Path) -> None:
    """A text beyond max_tokens, special tokens included, is marked and encoded as what was kept; one at the limit is
    whole.
    """
    encoder = loaded(resolve("builtin:minilm"), OPENVINO, models_dir)
    texts = ["a cat", "dog " * 254, "dog " * 255, "dog " * 900]
    vectors, truncated, *_ = encoder.encode(texts)
    assert truncated.tolist() == [False, False, True, True]
    assert truncated.dtype == np.bool_
    assert np.array_equal(vectors[1], vectors[2])
    assert np.array_equal(vectors[1], vectors[3])


def test_vectors_are_unit_float32(models_dir: Path) -> None:
    """Vectors are float32, C-contiguous and of length 1 to the last bits."""
    vectors = loaded(resolve("builtin:minilm"), OPENVINO_BF16, models_dir).encode(captions(21)).vectors
    assert (vectors.dtype, vectors.shape) == (np.float32, (21, 384))
    assert vectors.flags.c_contiguous
    assert np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() < 1e-6


@pytest.mark.parametrize("buckets", [32, 64])
def test_relative_buckets_are_transformers(buckets: int) -> None:
    """MPNet's buckets of relative positions equal transformers' own, for every pair of 512 positions."""
    import torch
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    place = torch.arange(512)
    expected = MPNetEncoder.relative_position_bucket(place[None, :] - place[:, None], num_buckets=buckets)
    ours = relative_buckets(512, buckets)
    assert ours.dtype == np.int32
    assert np.array_equal(ours, expected.numpy())


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> None:
    """MiniLM's weight file is held to its hash: a copy with one bit turned is refused by name, and nothing is kept."""
    spec = resolve("builtin:minilm")
    folder = tmp_path / "model"
    shutil.copytree(weight_files(spec)[0].parent, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    bad = damaged(weight_files(spec)[0], folder / "model.safetensors")
    monkeypatch.setattr(sentence, "weight_files", lambda _: (bad,))
    with pytest.raises(EncoderError, match=r"model\.safetensors is not the pinned file"):
        loaded(spec, runtime, tmp_path / "models")
    assert not list((tmp_path / "models").glob("*"))


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_files(tmp_path: Path, dtype: str, runtime: Runtime) -> None:
    """A model stored in bf16 or fp16 is computed in fp32 from the stored values."""
    import torch
    from transformers import AutoModel

    folder = save_bert(tmp_path / "model")
    AutoModel.from_pretrained(folder).to(getattr(torch, dtype)).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    spec = resolve(f"local:{folder}")
    vectors = loaded(spec, runtime, tmp_path / "models").encode(captions(7)).vectors
    assert cosines(vectors, oracle(folder, captions(7), 40)).min() >= 0.99999


def test_task_models_carry_a_prefix(tmp_path: Path) -> None:
    """Weights saved from a task model, their parameters named ``bert.…``, give the vectors of the bare model."""
    from transformers import BertForMaskedLM, BertModel

    folder = save_bert(tmp_path / "bare")
    bare = loaded(resolve(f"local:{folder}"), OPENVINO, tmp_path / "models").encode(captions(7)).vectors
    model = BertForMaskedLM(BertModel.from_pretrained(folder).config)
    model.bert.load_state_dict(BertModel.from_pretrained(folder, add_pooling_layer=False).state_dict())
    model.save_pretrained(tmp_path / "task")
    shutil.copy(folder / "tokenizer.json", tmp_path / "task")
    task = loaded(resolve(f"local:{tmp_path / 'task'}"), OPENVINO, tmp_path / "models").encode(captions(7)).vectors
    assert np.array_equal(task, bare)


def test_graph_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    """Other model types, activations, position embeddings and poolings are refused, not computed wrongly."""
    folder = save_bert(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    weights = safetensors_reader(folder / "model.safetensors")
    changes: list[dict[str, Any]] = [{"model_type": "roberta"}, {"hidden_act": "relu"}, {"is_decoder": True}]
    for change in [*changes, {"position_embedding_type": "relative_key"}]:
        with pytest.raises(EncoderError, match="no graph"):
            build({**config, **change}, weights, "mean")
    with pytest.raises(EncoderError, match="does not fit a text encoder"):
        build(config, weights, "pooler")


def test_incomplete_folders_are_refused(tmp_path: Path) -> None:
    """Weights in shards, a damaged file, a missing parameter and a missing tokenizer are each named in one line."""
    from safetensors.numpy import save_file

    with pytest.raises(EncoderError, match=r"holds no model\.safetensors"):
        safetensors_reader(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(EncoderError, match="cannot be read"):
        safetensors_reader(tmp_path / "model.safetensors")
    save_file({"x": np.zeros(1, np.float32)}, str(tmp_path / "model.safetensors"))
    with pytest.raises(EncoderError, match=r"holds no parameter embeddings\.word"):
        safetensors_reader(tmp_path / "model.safetensors")("embeddings.word_embeddings.weight")
    folder = save_bert(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    for runtime in (OPENVINO, TORCH):
        with pytest.raises(EncoderError, match=r"tokenizer\.json is not a tokenizer"):
            loaded(resolve(f"local:{folder}"), runtime, tmp_path / "models")
    (folder / "tokenizer.json").unlink()
    for runtime in (OPENVINO, TORCH):
        with pytest.raises(EncoderError, match=r"tokenizer\.json"):
            loaded(resolve(f"local:{folder}"), runtime, tmp_path / "models")
