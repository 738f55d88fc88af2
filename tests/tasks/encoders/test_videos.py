from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.encoders.fingerprint import fingerprint
from tasks.encoders.frames_names import frames_name
from tasks.encoders.protocol import Array, EncoderError, slug
from tasks.encoders.registry import check_installed, resolve
from tasks.encoders.runtime import choose
from tasks.encoders.sampling import Clips, Evenly, Every, Sampling, Scenes
from tasks.encoders.torchvision_video_names import VIDEO_WEIGHTS
from tasks.media.registry import Limits
from tasks.media.video import Clip, decode
from tests.clips import FPS, Pixels, film, filmed, grey
from tests.tasks.encoders.parts import OPENVINO, TORCH, TORCH_BF16, cosines, folder_of, loaded, scene
from tests.tasks.encoders.test_automodel import SMALL
from tests.tasks.encoders.test_company import EVERY_RUNTIME, assert_company_is_nothing, differ
from tests.tasks.encoders.test_torchvision import checkpoints, publish, random_net
from tests.tasks.media.test_video import damaged

__all__ = ["checkpoints"]  # a fixture of another file


@cache
def clips() -> list[Clip]:
    """Videos of several lengths and sizes; one is a single frame, and one has three scenes."""
    short = [scene(40, 64, number) for number in range(3)]
    cut = [scene(64, 48, 7)] * 12 + [grey(0, 48, 64)] * 9 + [grey(50, 48, 64)] * 15
    films = [filmed(short[:1]), filmed(short * 5), filmed(cut), filmed([scene(48, 48, n // 4) for n in range(60)])]
    return [decode(one, Limits()) for one in films]


# which frames


@pytest.mark.parametrize(
    ("sampling", "times"),
    [
        (Evenly(4), [[0.25], [0.75], [1.25], [1.75]]),
        (Every(0.75), [[0.0], [0.75], [1.5]]),
        (Every(5.0), [[0.0]]),
        (Clips(1, 4), [[0.25, 0.75, 1.25, 1.75]]),
        (Clips(2, 2), [[0.25, 0.75], [1.25, 1.75]]),
        (Clips(2, 8, 10.0), [[0.1 + n / 10 for n in range(8)], [1.1 + n / 10 for n in range(8)]]),
        (Clips(9, 8, 10.0), [[0.1 + n / 10 for n in range(8)], [1.1 + n / 10 for n in range(8)]]),
        (Clips(5, 30, 10.0), [[n / 10 for n in range(30)]]),
    ],
    ids=str,
)
def test_policies_by_hand(sampling: Sampling, times: list[list[float]]) -> None:
    """Each policy gives the times that its text says, for a video of two seconds."""
    found = sampling(decode(film(50), Limits()))
    assert [len(part) for part in found] == [len(part) for part in times]
    assert [time for part in found for time in part] == pytest.approx([time for part in times for time in part])


def test_scenes_are_the_longest() -> None:
    """Of three scenes the middles of all three, or of the two longest, in order of time."""
    clip = clips()[2]
    middles = [6 / FPS, 16.5 / FPS, 28.5 / FPS]
    assert [time for (time,) in Scenes(8)(clip)] == pytest.approx(middles, abs=1e-3)
    assert [time for (time,) in Scenes(2)(clip)] == pytest.approx([middles[0], middles[2]], abs=1e-3)


# frames through an encoder of images


def test_names() -> None:
    """What is not an option of frames goes to the image encoder; policy and pool have defaults."""
    assert frames_name("frames:builtin:efficientnet-lite0") == ("builtin:efficientnet-lite0", Evenly(8), "mean")
    name = "frames:hf:org/name@0123?pooling=cls&scenes=3&pool=max&licence=MIT"
    assert frames_name(name) == ("hf:org/name@0123?pooling=cls&licence=MIT", Scenes(3), "max")
    assert frames_name("frames:local:a b?every=0.5") == ("local:a b", Every(0.5), "mean")
    spec = resolve("frames:builtin:efficientnet-lite0?n=4", "video")
    assert (spec.modality, spec.dim, spec.licence, spec.cnn_activations) == ("video", 1280, "Apache-2.0", True)
    assert slug(spec) == "frames-builtin-efficientnet-lite0-n-4"
    assert choose(spec, "cpu") == choose(resolve("builtin:efficientnet-lite0"), "cpu")
    check_installed(spec, "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frames:", "is not understood"),
        ("frames:builtin:minilm", "encodes text, not image"),
        ("frames:frames:builtin:efficientnet-lite0", "encodes video, not image"),
        ("frames:builtin:none", "there is no encoder"),
        ("frames:builtin:efficientnet-lite0?n=0", "n=0 is not understood"),
        ("frames:builtin:efficientnet-lite0?n=2.5", "n=2.5 is not understood"),
        ("frames:builtin:efficientnet-lite0?every=nan", "every=nan is not understood"),
        ("frames:builtin:efficientnet-lite0?n=2&every=1", "two ways"),
        ("frames:builtin:efficientnet-lite0?pool=sum", "cannot be pooled"),
        ("frames:builtin:efficientnet-lite0?m=2", "there is no encoder"),
    ],
)
def test_unfit_names_are_refused(name: str, message: str) -> None:
    """An encoder of something else, a policy out of range, and two at once are refused in one line."""
    with pytest.raises(EncoderError, match=message) as caught:
        resolve(name, "video")
    assert "\n" not in str(caught.value)


def test_fingerprints(tiny: dict[str, str]) -> None:
    """Policy, pool and the image encoder each change the fingerprint; a moved folder does not."""
    names = ("", "n=4", "every=1", "scenes=4", "pool=max", "pool=attention")
    marks = {fingerprint(resolve(f"frames:{tiny['image']}&{more}"), OPENVINO) for more in names}
    marks.add(fingerprint(resolve(f"frames:local:{folder_of(tiny['image'])}?pooling=cls"), OPENVINO))
    marks.add(fingerprint(resolve(tiny["image"]), OPENVINO))
    assert len(marks) == 8
    assert fingerprint(resolve(f"frames:{tiny['image']}&n=8"), OPENVINO) == fingerprint(
        resolve(f"frames:{tiny['image']}"), OPENVINO
    )


@pytest.mark.parametrize("pool", ["mean", "max", "attention"])
def test_a_video_is_its_frames(tiny: dict[str, str], models_dir: Path, pool: str) -> None:
    """A part's vector is what the image encoder gives for the frame in the size that it takes; an item pools them."""
    image = loaded(resolve(tiny["image"]), OPENVINO, models_dir)
    encoder = loaded(resolve(f"frames:{tiny['image']}&n=5&pool={pool}"), OPENVINO, models_dir)
    inputs = [encoder.transform(one) for one in clips()]
    vectors, _, _, parts = encoder.encode(inputs)
    for clip, vector, part in zip(clips(), vectors, parts, strict=True):
        times = [(number + 0.5) / 5 * clip.seconds for number in range(5)]
        frames = image.encode([image.transform(one) for one in clip.frames(times, image.prepare.shorter_side)]).vectors
        assert part.starts == pytest.approx(times)
        assert np.abs(part.vectors - frames).max() < 1e-6
        middle = frames.mean(axis=0) / np.linalg.norm(frames.mean(axis=0))
        weights = np.exp(10 * frames @ middle)
        pooled = {"mean": frames.mean(axis=0), "max": frames.max(axis=0), "attention": weights @ frames}[pool]
        assert vector == pytest.approx(pooled / np.linalg.norm(pooled), abs=1e-6)
    assert differ(vectors)


def test_a_broken_video_costs_itself(tiny: dict[str, str], models_dir: Path) -> None:
    """Noise in the place of pictures is found out while parts are made: the others are encoded as if it were not."""
    encoder = loaded(resolve(f"frames:{tiny['image']}&n=3"), OPENVINO, models_dir)
    inputs = [encoder.transform(one) for one in (clips()[1], decode(damaged(film(20)), Limits()), clips()[2])]
    vectors, _, failures, parts = encoder.encode(inputs)
    ((place, error),) = failures
    assert (place, error.code) == (1, "video_unreadable")
    assert not vectors[1].any()
    assert [len(one.starts) for one in parts] == [3, 0, 3]
    assert np.array_equal(vectors[[0, 2]], encoder.encode([inputs[0], inputs[2]]).vectors)


@EVERY_RUNTIME
def test_company_is_nothing(tiny: dict[str, str], models_dir: Path, runtime: Any) -> None:
    """Videos obey the law on every runtime, whatever the policy."""
    for policy in ("n=3", "every=0.4", "scenes=2&pool=max"):
        encoder = loaded(resolve(f"frames:{tiny['image']}&{policy}"), runtime, models_dir)
        assert differ(assert_company_is_nothing(encoder, [encoder.transform(one) for one in clips()], alone=4))


# torchvision


@pytest.mark.parametrize("weights", list(VIDEO_WEIGHTS))
def test_presets_are_torchvisions(weights: str) -> None:
    """Resize and crop are those of the installed torchvision's preset, clips those of its notes, and what enters the
    last layer is as wide as the table says: on the meta device, so without numbers.
    """
    import torch
    from torchvision import models

    from tasks.encoders.torchvision_models import without_last_layer

    dim, size, side, sampling = VIDEO_WEIGHTS[weights]
    entry = models.get_weight(weights)
    preset = entry.transforms()
    assert (preset.resize_size, preset.crop_size) == (list(size), [side, side])
    assert preset.interpolation.value == "bilinear"
    notes = entry.meta["_docs"]
    for said in (
        f"frame_rate={sampling.rate:g}",
        f"clips_per_video={sampling.count}",
        f"clip_len={sampling.frames}",
    ):
        assert f"`{said}`" in notes
    with torch.device("meta"), torch.inference_mode():
        net = models.get_model(weights.partition("_Weights")[0].lower(), weights=None).eval()
        without_last_layer(net)
        assert net(torch.empty(2, 3, sampling.frames, side, side)).shape == (2, dim)
    spec = resolve(f"torchvision:{weights}", "video")
    assert (spec.dim, choose(spec, "cpu").name) == (dim, "torch")


def test_table_holds_every_network_of_videos() -> None:
    """No weights are left out, and the advice for a moving name names the exact ones."""
    from torchvision import models

    known = {str(one) for net in models.list_models(module=models.video) for one in models.get_model_weights(net)}
    assert known == set(VIDEO_WEIGHTS)
    with pytest.raises(EncoderError, match="DEFAULT moves") as caught:
        resolve("torchvision:R3D_18_Weights.DEFAULT")
    assert caught.value.mend == "write R3D_18_Weights.KINETICS400_V1"


def preset_of(weights: str, frames: Sequence[Pixels]) -> Any:
    """A clip `(1, 3, t, h, w)` as torchvision's own preset makes it."""
    import torch
    from torchvision import models

    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    return models.get_weight(weights).transforms()(video[None])


@pytest.mark.parametrize("weights", ["MC3_18_Weights.KINETICS400_V1", "S3D_Weights.KINETICS400_V1"])
def test_networks_are_torchvisions(
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
) -> None:
    """The vector is the mean over clips of what enters the last layer of torchvision's network for its own preset of
    the clip's frames; weights are read from disk.
    """
    import torch

    width, size, side, _ = VIDEO_WEIGHTS[weights]
    sampling = Clips(1, 14, 25.0) if weights.startswith("S3D") else Clips(2, 8, 25.0)  # no longer than they must be
    monkeypatch.setitem(VIDEO_WEIGHTS, weights, (width, size, side, sampling))
    net = random_net(weights.partition("_Weights")[0].lower())
    publish(monkeypatch, weights, checkpoints, net.state_dict())
    entering: list[Any] = []
    last = net.classifier if weights.startswith("S3D") else net.fc

    def note(_: Any, inputs: tuple[Any]) -> None:
        entering.append(inputs[0].flatten(2).mean(2) if inputs[0].dim() > 2 else inputs[0])

    last.register_forward_pre_hook(note)
    clip = decode(filmed([scene(60, 90, number) for number in range(30)]), Limits())
    frames = list(clip.frames([(number + 0.5) / FPS for number in range(30)]))
    encoder = loaded(resolve(f"torchvision:{weights}"), TORCH, checkpoints)
    parts = encoder.encode([encoder.transform(clip)]).parts[0]
    chosen = [[int(time * FPS + 1e-6) for time in part] for part in sampling(clip)]
    with torch.inference_mode():
        for numbers in chosen:
            net(preset_of(weights, [frames[number] for number in numbers]))
    raw = torch.cat(entering).numpy()
    assert parts.vectors.shape == (sampling.count, width)
    assert cosines(parts.vectors, raw).min() > 0.99999
    vector = encoder.encode([encoder.transform(clip)]).vectors
    assert cosines(vector, raw.mean(axis=0, keepdims=True)).min() > 0.99999


# transformers

STRETCH = {
    "image_processor_type": "VideoMAEImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 2,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
}


def save(family: str, folder: Path) -> tuple[Any, str]:
    """Save a tiny random video model; give it and its encoder's name."""
    import torch
    import transformers as hf

    torch.manual_seed(2)
    if family == "videomae":
        config = hf.VideoMAEConfig(**SMALL, image_size=32, patch_size=8, num_frames=4, tubelet_size=2)
    else:
        vision = {
            **SMALL, "image_size": 32, "patch_size": 8, "num_frames": 4, "mit_hidden_size": 24,
            "mit_intermediate_size": 48, "mit_num_attention_heads": 2, "mit_num_hidden_layers": 1,
        }  # fmt: skip
        text = {**SMALL, "vocab_size": 64, "max_position_embeddings": 16, "eos_token_id": 2}
        config = hf.XCLIPConfig(
            vision_config=vision, text_config=text, projection_dim=24, prompt_num_attention_heads=2
        )  # fmt: skip
    model = hf.AutoModel.from_config(config).eval()
    for value in model.parameters():
        if value.dim() > 1:  # larger than the library's start, so that clips have distinct vectors
            torch.nn.init.normal_(value, std=0.2)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(STRETCH))
    return model, f"local:{folder}"


def forward(model: Any, frames: Sequence[Pixels]) -> Array:
    """The model's own output for a clip of prepared frames, normalised by hand."""
    import torch

    x = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(STRETCH[key]).view(1, 3, 1, 1) for key in ("image_mean", "image_std"))
    x = ((x - mean) / std)[None]
    with torch.inference_mode():
        if model.config.model_type == "xclip":
            return np.asarray(model.get_video_features(pixel_values=x).pooler_output.numpy())
        return np.asarray(model(pixel_values=x).last_hidden_state.mean(1).numpy())


@pytest.mark.parametrize("family", ["videomae", "xclip"])
def test_families_are_transformers(tmp_path: Path, family: str) -> None:
    """VideoMAE's parts are the mean state of short clips, X-CLIP's the projection of frames from the whole video."""
    from tasks.encoders.automodel import read_processor

    model, name = save(family, tmp_path / "model")
    spec = resolve(f"{name}?clips=2&fps=12.5" if family == "videomae" else name, "video")
    assert (spec.modality, spec.dim) == ("video", 32 if family == "videomae" else 24)
    sampling = Clips(2, 4, 12.5) if family == "videomae" else Clips(1, 4)
    assert spec.sampling == f"{sampling}, mean"
    prepare, _, _ = read_processor("x", STRETCH)
    for runtime, least in ((TORCH, 0.99999), (TORCH_BF16, 0.99)):
        encoder = loaded(spec, runtime, tmp_path)
        inputs = [encoder.transform(one) for one in clips()]
        vectors = assert_company_is_nothing(encoder, inputs, alone=4)
        assert differ(vectors)
        for clip, vector, part in zip(clips(), vectors, encoder.encode(inputs).parts, strict=True):
            raw = [forward(model, [prepare(one) for one in clip.frames(times)]) for times in sampling(clip)]
            assert cosines(part.vectors, np.concatenate(raw)).min() >= least
            assert cosines(vector[None], np.mean(raw, axis=0)).min() >= least


def test_options_of_videos(tmp_path: Path) -> None:
    """Clips and frames a second are options, part of the fingerprint; X-CLIP asked for a rate reads short clips too."""
    _, name = save("xclip", tmp_path)
    assert resolve(name).sampling == "1 clips of 4 frames, evenly, mean"
    assert resolve(f"{name}?fps=5").sampling == "5 clips of 4 frames, 5 a second, mean"
    assert fingerprint(resolve(name), TORCH) != fingerprint(resolve(f"{name}?clips=3"), TORCH)
    for options, message in (
        ("clips=0", "clips=0 is not understood"),
        ("clips=1.5", "clips=1.5 is not understood"),
        ("fps=-1", "fps=-1 is not understood"),
        ("window=1", "unknown option window"),
        ("modality=image", "modality 'image' is not known"),
    ):
        with pytest.raises(EncoderError, match=message):
            resolve(f"{name}?{options}")
