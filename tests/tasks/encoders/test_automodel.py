from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.encoders.automodel import read_processor
from tasks.encoders.pictures import ResizeCrop
from tasks.encoders.protocol import Array, EncoderError, Runtime
from tasks.encoders.registry import resolve
from tests.tasks.encoders.parts import (
    ODD_SIZES,
    OPENVINO,
    TORCH,
    captions,
    cosines,
    folder_of,
    loaded,
    save_tokenizer,
    scene,
    scenes,
    start_python,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
STRETCH = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


def save_image_model(folder: Path, config: Any) -> Any:
    """A random image model of a transformers config, with a preprocessor_config.json; gives the model."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(3)
    model = AutoModel.from_config(config).eval()
    for name, value in model.named_parameters():
        if value.dim() > 1:  # larger than the library's start, so that pictures have distinct vectors
            torch.nn.init.normal_(value, std=0.2)
        elif "lambda" in name or "layer_scale" in name:
            torch.nn.init.ones_(value)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(STRETCH))
    return model


def forward(model: Any, inputs: list[Any]) -> Any:
    """The model's outputs on inputs `(32, 32, 3)` uint8, normalised by hand."""
    import torch

    x = torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(STRETCH[key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std"))
    with torch.inference_mode():
        return model(pixel_values=(x - mean) / std)


def assert_equal_directions(vectors: Array, expected: Any) -> None:
    """Rows point where the oracle's do; and the oracle's rows are not all alike."""
    raw = expected.numpy().reshape(len(vectors), -1)
    units = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.abs(vectors - units).max() < 1e-4
    assert np.abs(units[1:] - units[:-1]).max(axis=1).min() > 1e-2


# names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:org/name", "has no revision"),
        ("hf:org/name@", "has no revision"),
        ("hf:org/name@main", "moves"),
        ("hf:org/name@MAIN", "moves"),
        ("hf:org/name@master", "moves"),
        ("hf:org/name@latest", "moves"),
        ("hf:org/name@refs/pr/1", "moves"),
        ("hf:a/b/c@0123", "names no repository"),
        ("hf:@0123", "names no repository"),
        ("hf:", "is not understood"),
        ("hf:a--b/c@0123", "cannot be fetched"),
        ("hf:组织/模型@0123", "cannot be fetched"),
        (f"hf:org/absent@{COMMIT}", "cannot be fetched"),
        (f"hf:org/name@{COMMIT}?size=3", "unknown option size"),
    ],
)
def test_hub_names_without_a_pinned_revision_are_refused(name: str, message: str) -> None:
    """A hub name without a revision, with one that moves, or that the hub cannot have, is refused in one line."""
    with pytest.raises(EncoderError, match=message) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)
    assert caught.value.mend


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty and offline: what HF_HUB_CACHE and HF_HUB_OFFLINE=1 set when the client is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(hub: Path, repository: str, source: Path) -> Path:
    """Lay a folder out as the hub's client caches a commit: blobs, and links to them by name."""
    root = hub / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    for path in source.iterdir():
        shutil.copy(path, root / "blobs" / f"blob-{path.name}")
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", f"blob-{path.name}"))
    return snapshot


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
@pytest.mark.parametrize("kind", ["text", "image"])
def test_pinned_hub_model_from_the_cache(
    hub: Path, tiny: dict[str, str], models_dir: Path, kind: str, runtime: Runtime
) -> None:
    """A pinned hub model whose files lie in the hub's cache is found and loaded offline, and encodes as the same model
    in a folder does.
    """
    local = tiny[kind]
    cached(hub, "org/name", folder_of(local))
    spec = resolve(f"hf:org/name@{COMMIT}?pooling=mean&licence=MIT", kind)
    assert (spec.revision, spec.dim, spec.modality) == (f"org/name@{COMMIT}", 32, kind)
    assert (spec.pooling, spec.licence) == ("mean", "MIT")
    inputs: list[Any] = captions(7) if kind == "text" else scenes(3)
    of_hub, of_folder = (loaded(one, runtime, models_dir) for one in (spec, resolve(local)))
    vectors = of_hub.encode([of_hub.transform(one) for one in inputs]).vectors
    assert np.array_equal(vectors, of_folder.encode([of_folder.transform(one) for one in inputs]).vectors)


def test_incomplete_hub_cache(hub: Path, tiny: dict[str, str], models_dir: Path) -> None:
    """A file that is neither in the cache nor to be fetched is named when the encoder is loaded."""
    snapshot = cached(hub, "org/name", folder_of(tiny["text"]))
    (snapshot / "model.safetensors").unlink()
    for runtime in (OPENVINO, TORCH):
        with pytest.raises(EncoderError, match=r"model\.safetensors cannot be fetched"):
            loaded(resolve(f"hf:org/name@{COMMIT}?pooling=cls"), runtime, models_dir)


def test_local_folder_is_known_by_its_content(tmp_path: Path, tiny: dict[str, str]) -> None:
    """A moved or copied folder keeps its revision; another weight, tokenizer or configuration changes it."""
    source = folder_of(tiny["text"])
    first = resolve(tiny["text"]).revision
    assert first.startswith("content:")
    shutil.copytree(source, tmp_path / "copy")
    assert resolve(f"local:{tmp_path / 'copy'}").revision == first
    (tmp_path / "copy" / "README.md").write_text("words")
    assert resolve(f"local:{tmp_path / 'copy'}").revision == first
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        path = tmp_path / "copy" / name
        path.write_bytes(path.read_bytes() + b" ")
        changed = resolve(f"local:{tmp_path / 'copy'}").revision
        assert changed != first
        first = changed


def test_local_paths(tmp_path: Path, tiny: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A local name may be relative to the working folder or to the user's home."""
    shutil.copytree(folder_of(tiny["text"]), tmp_path / "bert")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("local:bert", "local:./bert", "local:~/bert"):
        assert resolve(name, "text").source == str(tmp_path / "bert")


def test_local_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    """No folder, no configuration, a broken one, no weights: each is named in one line that says what to do."""
    folder = tmp_path / "model"
    for content, message in (
        (None, "there is no config.json"),
        ("{", "cannot be read"),
        ("[]", "holds no object"),
        ('{"model_type": "bert"}', "no .safetensors"),
    ):
        if content is not None:
            folder.mkdir(exist_ok=True)
            (folder / "config.json").write_text(content)
        with pytest.raises(EncoderError, match=message) as caught:
            resolve(f"local:{folder}")
        assert caught.value.mend


def test_pickles_are_refused(tmp_path: Path, tiny: dict[str, str], models_dir: Path, hub: Path) -> None:
    """A model that has only pickled weights (.bin) is refused: as a folder by name, from the hub when it is loaded."""
    import torch
    from safetensors.torch import load_file

    for kind in ("image", "text"):
        folder = tmp_path / kind
        shutil.copytree(folder_of(tiny[kind]), folder)
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
        with pytest.raises(EncoderError, match=r"no \.safetensors weights"):
            resolve(f"local:{folder}")
        cached(hub, f"org/{kind}", folder)
        spec = resolve(f"hf:org/{kind}@{COMMIT}")
        with pytest.raises(EncoderError, match="cannot be"):
            loaded(spec, TORCH, models_dir)


# options


def test_pooling_options(tiny: dict[str, str]) -> None:
    """Texts take mean and cls, images also pooler and avg; another pooling is refused with those that fit."""
    text, image = f"local:{folder_of(tiny['text'])}", f"local:{folder_of(tiny['image'])}"
    assert resolve(text).pooling == "mean"
    assert resolve(image).pooling == "cls"
    for pooling in ("mean", "cls"):
        assert resolve(f"{text}?pooling={pooling}").pooling == pooling
    for pooling in ("mean", "cls", "pooler", "avg"):
        assert resolve(f"{image}?pooling={pooling}").pooling == pooling
    for name in (f"{text}?pooling=pooler", f"{text}?pooling=max", f"{image}?pooling=max", f"{image}?pooling="):
        with pytest.raises(EncoderError, match="does not fit") as caught:
            resolve(name)
        assert "mean" in caught.value.mend


def test_modality_mismatch(tiny: dict[str, str]) -> None:
    """An encoder asked for a modality that it does not encode is refused; so are unknown modalities and options."""
    with pytest.raises(EncoderError, match="encodes text, not image"):
        resolve(tiny["text"], "image")
    with pytest.raises(EncoderError, match="encodes image, not text"):
        resolve(tiny["image"], "text")
    with pytest.raises(EncoderError, match="modality 'audio' is not known"):
        resolve(f"{tiny['text']}&modality=audio")
    with pytest.raises(EncoderError, match="encodes image, not text"):
        resolve(f"{tiny['image']}&modality=image", "text")
    with pytest.raises(EncoderError, match="unknown option colour, size"):
        resolve(f"{tiny['text']}&size=2&colour=red")


def test_models_of_several_modalities_are_refused(tmp_path: Path) -> None:
    """A two-tower model, a model with a decoder, and one whose pooling is not known: each is refused, not guessed."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    for config, message in (
        ({"model_type": "clip", "vision_config": {}, "text_config": {}}, "'several' is not known"),
        ({"model_type": "t5", "vocab_size": 9, "d_model": 8, "is_encoder_decoder": True}, "decoder"),
        ({"model_type": "hiera", "image_size": 32, "hidden_size": 8}, "pools is not known"),
        ({"model_type": "bert", "vocab_size": 9}, "how wide"),
        ({"model_type": "bert", "vocab_size": 9, "position_embedding_type": "relative_key"}, "position embeddings"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(EncoderError, match=message):
            resolve(f"local:{tmp_path}")


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "bert", "max_position_embeddings": 64}, 64),
        ({"model_type": "distilbert", "max_position_embeddings": 2048}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 130, "pad_token_id": 1}, 128),
    ],
)
def test_token_limits(tmp_path: Path, config: dict[str, Any], limit: int) -> None:
    """Texts are cut at the positions a model has, less those it skips, and at 512 at most."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocab_size": 9, "hidden_size": 8}))
    assert resolve(f"local:{tmp_path}").max_tokens == limit


# remote code


@pytest.mark.parametrize("model_type", ["vit", "unheard_of"])
def test_no_code_of_a_model_is_run(tmp_path: Path, tiny: dict[str, str], models_dir: Path, model_type: str) -> None:
    """A configuration that asks for its own code (auto_map) runs none: a known model type is loaded by the library's
    class, an unknown one is refused.
    """
    folder = tmp_path / "model"
    shutil.copytree(folder_of(tiny["image"]), folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = model_type
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    spec = resolve(f"local:{folder}?pooling=mean")
    if model_type == "vit":
        vectors = [loaded(one, TORCH, models_dir).encode(inputs()).vectors for one in (spec, resolve(tiny["image"]))]
        assert np.array_equal(*vectors)
    else:
        with pytest.raises(EncoderError, match="cannot be loaded"):
            loaded(spec, TORCH, models_dir)
    assert not (tmp_path / "ran").exists()


def inputs() -> list[Any]:
    """Model inputs `(32, 32, 3)` uint8."""
    return [scene(32, 32, number) for number in range(5)]


# models


def families() -> dict[str, Any]:
    """Tiny configurations of the image families that the documentation names."""
    import transformers as hf

    vit = {**SMALL, "image_size": 32, "patch_size": 8}
    return {
        "vit": hf.ViTConfig(**vit),
        "dinov2": hf.Dinov2Config(**vit),
        "dinov2_with_registers": hf.Dinov2WithRegistersConfig(**vit, num_register_tokens=3),
        "resnet": hf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic"),
        "convnext": hf.ConvNextConfig(hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 1, 1]),
        "swin": hf.SwinConfig(
            image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4
        ),
    }


@pytest.mark.parametrize("family", ["vit", "dinov2", "dinov2_with_registers", "resnet", "convnext", "swin"])
def test_image_families_are_transformers(tmp_path: Path, family: str) -> None:
    """Each family's default pooling is what transformers' forward gives, on torch and converted to OpenVINO: the first
    token of transformers, the pooled map of convolutions.
    """
    model = save_image_model(tmp_path / "model", families()[family])
    spec = resolve(f"local:{tmp_path / 'model'}", "image")
    out = forward(model, inputs())
    pooled = family in ("resnet", "convnext", "swin")
    assert spec.pooling == ("pooler" if pooled else "cls")
    assert spec.cnn_activations == (family == "resnet")
    for runtime in (TORCH, OPENVINO):
        vectors = loaded(spec, runtime, tmp_path / "models").encode(inputs()).vectors
        assert vectors.shape == (5, spec.dim)
        assert_equal_directions(vectors, out.pooler_output if pooled else out.last_hidden_state[:, 0])


def test_poolings_are_what_they_say(tmp_path: Path) -> None:
    """Pooling cls is the first token, mean all others but registers, avg all, pooler the model's own; a map is averaged
    over its places.
    """
    model = save_image_model(tmp_path / "dino", families()["dinov2_with_registers"])
    hidden = forward(model, inputs()).last_hidden_state
    expected = {"cls": hidden[:, 0], "mean": hidden[:, 4:].mean(1), "avg": hidden.mean(1)}
    expected["pooler"] = forward(model, inputs()).pooler_output
    for pooling, rows in expected.items():
        encoder = loaded(resolve(f"local:{tmp_path / 'dino'}?pooling={pooling}"), TORCH, tmp_path / "models")
        assert_equal_directions(encoder.encode(inputs()).vectors, rows)
    model = save_image_model(tmp_path / "resnet", families()["resnet"])
    encoder = loaded(resolve(f"local:{tmp_path / 'resnet'}?pooling=avg"), TORCH, tmp_path / "models")
    assert_equal_directions(encoder.encode(inputs()).vectors, forward(model, inputs()).last_hidden_state.mean((2, 3)))


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"is_decoder": True}], ids=str)
def test_other_berts_run_on_torch(tmp_path: Path, tiny: dict[str, str], change: dict[str, Any]) -> None:
    """A BERT that our graph does not know is left to transformers: its vectors are not those of the usual kind."""
    shutil.copytree(folder_of(tiny["text"]), tmp_path / "bert")
    path = tmp_path / "bert" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    spec = resolve(f"local:{tmp_path / 'bert'}")
    assert spec.loader == "tasks.encoders.automodel:load_text"
    of_this, usual = (loaded(one, TORCH, tmp_path).encode(captions(7)).vectors for one in (spec, resolve(tiny["text"])))
    assert np.abs(of_this - usual).max(axis=1).min() > 1e-5  # beyond what fp32 rounds


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_other_text_models_run_on_torch(tmp_path: Path, pooling: str) -> None:
    """A text model without our graph (RoBERTa) is the pooled output of transformers, masked beyond each text's end."""
    import torch
    from tokenizers import Tokenizer
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(4)
    vocabulary = save_tokenizer(tmp_path, ("<s>", "<pad>", "</s>", "[UNK]"))
    config = RobertaConfig(vocab_size=len(vocabulary), max_position_embeddings=42, pad_token_id=1, **SMALL)
    model = RobertaModel(config).eval()
    model.save_pretrained(tmp_path)
    spec = resolve(f"local:{tmp_path}?pooling={pooling}")
    assert (spec.loader, spec.max_tokens) == ("tasks.encoders.automodel:load_text", 40)
    texts = captions(14)
    encoder = loaded(spec, TORCH, tmp_path / "models")
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(40)
    rows = []
    with torch.inference_mode():
        for text in texts:
            hidden = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
            rows.append((hidden.mean(0) if pooling == "mean" else hidden[0]).numpy())
    vectors, truncated, *_ = encoder.encode(texts)
    assert cosines(vectors, np.stack(rows)).min() >= 0.99999
    assert truncated.tolist() == [len(text.split()) > 38 for text in texts]


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
def test_half_precision_files(tmp_path: Path, runtime: Runtime) -> None:
    """A model stored in bf16 is computed in fp32 from the stored values, on both runtimes."""
    import torch

    model = save_image_model(tmp_path / "model", families()["vit"]).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "model")
    vectors = loaded(resolve(f"local:{tmp_path / 'model'}"), runtime, tmp_path / "models").encode(inputs()).vectors
    assert_equal_directions(vectors, forward(model.float(), inputs()).last_hidden_state[:, 0])


def test_loading_is_silent(tmp_path: Path) -> None:
    """Neither reading nor converting a model prints progress bars or advice, and the library's own settings stay."""
    save_image_model(tmp_path / "model", families()["vit"])
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from transformers.utils import logging\n"
        "from tasks.encoders.automodel import load_image\n"
        "from tasks.encoders.protocol import Runtime\n"
        "from tasks.encoders.registry import resolve\n"
        "before = logging.get_verbosity(), logging.is_progress_bar_enabled()\n"
        "runtime = Runtime('openvino', 'float32', 'cpu')\n"
        "load_image(resolve(f'local:{sys.argv[1]}'), runtime, 'fresh', Path(sys.argv[2]), 1)\n"
        "assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before\n"
    )
    process = start_python(script, str(tmp_path / "model"), str(tmp_path / "models"))
    assert process.communicate(timeout=300) == ("", "")
    assert process.returncode == 0


def test_missing_parts_are_named(tmp_path: Path, tiny: dict[str, str]) -> None:
    """A folder without its image processor's file, or with a pooler asked for that it lacks, is refused by name."""
    model = tmp_path / "model"
    shutil.copytree(folder_of(tiny["image"]), model)
    (model / "preprocessor_config.json").write_text("[]")
    with pytest.raises(EncoderError, match="holds no object"):
        loaded(resolve(f"local:{model}"), TORCH, tmp_path)
    (model / "preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match=r"no preprocessor_config\.json"):
        loaded(resolve(f"local:{model}"), TORCH, tmp_path)


# image processors


def today(kind: str, size: dict[str, int], resample: int, **other: Any) -> dict[str, Any]:
    """A preprocessor_config.json as today's transformers writes it."""
    return {**old(kind, size, resample), "do_rescale": True, "rescale_factor": 1 / 255, **other,
            "feature_extractor_type": None, "image_processor_type": f"{kind}ImageProcessor"}  # fmt: skip


def old(kind: str, size: Any, resample: int, **other: Any) -> dict[str, Any]:
    """A preprocessor_config.json as the first releases wrote it; the files of many models are still like this."""
    return {"feature_extractor_type": f"{kind}FeatureExtractor", "do_resize": True, "size": size, "resample": resample,
            "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
            **other}  # fmt: skip


def processors() -> dict[str, dict[str, Any]]:
    """The image processors of several families, for small sizes."""
    square, crop = {"height": 32, "width": 32}, {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    return {
        "vit": today("ViT", square, 2),
        "vit, not square": today("ViT", {"height": 48, "width": 32}, 3),
        "vit, not normalised": today("ViT", square, 2, do_normalize=False),
        "vit, old": old("ViT", 32, 2),
        "dinov2": today("Bit", {"shortest_edge": 37}, 3, do_convert_rgb=True, **crop),
        "dinov2, wider": today("Bit", {"shortest_edge": 40}, 3, **crop),
        "dinov3": today("DINOv3ViT", square, 2),
        "clip, old": old("CLIP", 36, 3, do_center_crop=True, crop_size=32),
        "beit, old": old("Beit", 32, 2, do_center_crop=False, crop_size=32),
        "resnet": today("ConvNext", {"shortest_edge": 32}, 3, crop_pct=0.875),
        "resnet, old": old("ConvNext", 32, 3, crop_pct=0.875),
        "convnext": today("ConvNext", {"shortest_edge": 45}, 2, crop_pct=0.9),
        "convnext, large": today("ConvNext", {"shortest_edge": 384}, 3, crop_pct=1.0),
    }


@pytest.mark.parametrize("kind", list(processors()))
def test_processors_are_transformers(tmp_path: Path, kind: str) -> None:
    """Resize, crop and normalisation read from a preprocessor_config.json are what transformers' own image processor
    does on odd sizes: exactly against its PIL backend; against its torchvision backend, whose resampling of tensors
    rounds otherwise than PIL in each of its two passes, to one grey level, two in a pixel of a thousand.
    """
    from transformers import AutoImageProcessor

    about = processors()[kind]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(about))
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    prepare, mean, std = read_processor("local:x", about)
    backends = ("torchvision",) if kind == "dinov3" else ("pil", "torchvision")
    for backend in backends:
        processor = AutoImageProcessor.from_pretrained(tmp_path, backend=backend)
        for number, (height, width) in enumerate(ODD_SIZES):
            picture = scene(height, width, number)
            ours = (prepare(picture) / 255.0 - np.array(mean)) / np.array(std)
            theirs = np.asarray(processor(Image.fromarray(picture), return_tensors="np")["pixel_values"][0])
            assert theirs.shape == (3, prepare.height, prepare.width)
            greys = np.abs(ours.transpose(2, 0, 1) - theirs) * np.array(std)[:, None, None] * 255
            most, rare = (0.01, 0.0) if backend == "pil" else (2.01, 1e-3)
            assert greys.max() < most, (backend, height, width)
            assert (greys > 1.01).mean() <= rare, (backend, height, width)


def test_processor_of_a_hand_written_file() -> None:
    """A file that names no processor is taken at its word."""
    box, mean, std = read_processor("x", STRETCH)
    assert box == ResizeCrop(32, 32, filter="bilinear")
    assert (mean, std) == (STRETCH["image_mean"], STRETCH["image_std"])
    about = {**STRETCH, "size": 40, "crop_size": 32, "do_center_crop": True}
    assert read_processor("x", about)[0] == ResizeCrop(32, 32, 40, "bilinear", floor=True)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"image_processor_type": "LevitImageProcessor"}, "LevitImageProcessor"),
        ({"image_processor_type": "OurOwn"}, "OurOwn"),
        ({"image_processor_type": "DeiTImageProcessor", "size": 256, "crop_size": 224, "do_center_crop": True}, "crop"),
        ({"do_resize": False}, "do_resize"),
        ({"do_rescale": False}, "do_rescale"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"do_pad": True}, "do_pad"),
        ({"include_top": True}, "include_top"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"rescale_factor": 1.0}, "rescale_factor"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"resample": 9}, "resample"),
        ({"resample": "bicubic"}, "bicubic"),
        ({"resample": None}, "NoneType"),
        ({"size": {"shortest_edge": 32}}, "keep their shape"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "longest_edge"),
        ({"size": {"shortest_edge": 30}, "crop_size": 32, "do_center_crop": True}, "crop_size"),
        ({"size": {"shortest_edge": 40}, "do_center_crop": True}, "crop_size"),
        ({"size": [32, 32]}, "size"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_mean": 0.5}, "float"),
        ({"size": "absent"}, "size"),
        ({"image_std": "absent"}, "image_std"),
        ({"resample": "absent"}, "resample"),
    ],
    ids=str,
)
def test_unknown_processor_rules_are_refused(change: dict[str, Any], cause: str) -> None:
    """A rule that is not followed here, or not said, is refused by name: a picture is never encoded wrongly."""
    about = {key: value for key, value in {**STRETCH, **change}.items() if value != "absent"}
    with pytest.raises(EncoderError, match=re.escape(cause)) as caught:
        read_processor("hf:org/name", about)
    assert str(caught.value).startswith("hf:org/name: its preprocessor_config.json is not understood (")
