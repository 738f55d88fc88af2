from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.encoders import efficientnet
from tasks.encoders.classes import class_names
from tasks.encoders.packages import weight_files
from tasks.encoders.pictures import CentreSquare, ResizeCrop
from tasks.encoders.protocol import Array, EncoderError, Runtime
from tasks.encoders.registry import resolve
from tasks.encoders.runtime import has_bf16
from tests.tasks.encoders.parts import (
    ODD_SIZES,
    OPENVINO,
    OPENVINO_BF16,
    TORCH,
    TORCH_BF16,
    cosines,
    damaged,
    loaded,
    scene,
    scenes,
)

SIDES = {"efficientnet-lite0": 288, "efficientnet-lite2": 300}


def oracle(kind: str, pixels: np.ndarray) -> Array:
    """The package's own network in plain torch fp32: `(n, side, side, 3)` uint8 → `(n, 1280)`."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name(kind)
    (path,) = weight_files(resolve(f"builtin:{kind}"))
    net.load_state_dict(torch.load(path, weights_only=True))
    with torch.inference_mode():
        x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
        pooled: Array = net.eval().extract_features(x).mean((2, 3)).numpy()
    return pooled


@pytest.mark.parametrize("kind", list(SIDES))
def test_efficientnet_is_its_package_pooled(models_dir: Path, kind: str) -> None:
    """The vector is the mean of the last convolution's map over (pixels - 127) / 128: to 1e-5 in fp32, 3e-3 in bf16."""
    spec = resolve(f"builtin:{kind}")
    pictures = scenes(4)
    inputs = np.stack([CentreSquare(SIDES[kind])(one) for one in pictures])
    expected = oracle(kind, inputs)
    runtimes = (OPENVINO, OPENVINO_BF16, TORCH, TORCH_BF16) if kind == "efficientnet-lite0" else (OPENVINO,)
    for runtime in runtimes:
        if runtime is TORCH_BF16 and not has_bf16():
            continue  # emulated, for minutes; nothing chooses it there
        encoder = loaded(spec, runtime, models_dir)
        transformed = [encoder.transform(one) for one in pictures]
        assert np.array_equal(np.stack(transformed), inputs)
        vectors, truncated, *_ = encoder.encode(transformed)
        assert cosines(vectors, expected).min() >= (0.99999 if runtime.dtype == "float32" else 0.997)
        assert not truncated.any()
    # other pictures have other vectors, by more than the bounds above
    assert cosines(expected[:-1], expected[1:]).max() < 0.99


@pytest.mark.parametrize("kind", list(SIDES))
def test_stages_are_the_statistics_of_their_maps(models_dir: Path, kind: str) -> None:
    """Where a block's width changes a stage ends; its map's means and spreads, by NumPy, are the vector's parts."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name(kind).eval()
    net.load_state_dict(torch.load(weight_files(resolve(f"builtin:{kind}"))[0], weights_only=True))
    maps: list[np.ndarray] = []
    for block in net._blocks:
        block.register_forward_hook(lambda _block, _inputs, out: maps.append(out.numpy()))
    encoder = loaded(resolve(f"builtin:{kind}-stages"), OPENVINO, models_dir)
    picture = encoder.transform(scenes(1)[0])
    with torch.inference_mode():
        net.extract_features((torch.from_numpy(picture)[None].permute(0, 3, 1, 2).float() - 127) / 128)
    stages = [
        one[0]
        for one, after in zip(maps, [*maps[1:], None], strict=True)
        if after is None or len(after[0]) != len(one[0])
    ]
    assert len(stages) == 7
    parts = [way(one, axis=(1, 2)) for one in stages for way in (np.mean, np.std)]
    expected = np.concatenate([part / np.linalg.norm(part) for part in parts])
    assert cosines(encoder.encode([picture]).vectors, expected[None]).min() > 0.99999


@pytest.mark.parametrize("kind", list(SIDES))
def test_classes_are_the_scores_of_the_package(models_dir: Path, kind: str) -> None:
    """The vector is what the package's own classifier says of a picture, at unit length; one number a known name."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name(kind).eval()
    net.load_state_dict(torch.load(weight_files(resolve(f"builtin:{kind}"))[0], weights_only=True))
    spec = resolve(f"builtin:{kind}-classes")
    encoder = loaded(spec, OPENVINO, models_dir)
    inputs = [encoder.transform(one) for one in scenes(3)]
    with torch.inference_mode():
        said = net((torch.from_numpy(np.stack(inputs)).permute(0, 3, 1, 2).float() - 127) / 128).numpy()
    vectors = encoder.encode(inputs).vectors
    assert vectors.shape == (3, len(class_names(spec.classes)))
    assert cosines(vectors, said / np.linalg.norm(said, axis=1, keepdims=True)).min() > 0.9999


def test_vectors_are_unit_float32(models_dir: Path) -> None:
    """Vectors are float32, C-contiguous and of length 1 to the last bits."""
    encoder = loaded(resolve("builtin:efficientnet-lite0"), OPENVINO_BF16, models_dir)
    vectors = encoder.encode([encoder.transform(one) for one in scenes(3)]).vectors
    assert (vectors.dtype, vectors.shape) == (np.float32, (3, 1280))
    assert vectors.flags.c_contiguous
    assert np.abs(np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() < 1e-6


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> None:
    """The weight file is held to its hash: a copy with one bit turned is refused by name, and nothing is kept."""
    spec = resolve("builtin:efficientnet-lite0")
    bad = damaged(weight_files(spec)[0], tmp_path / "lite0.pth")
    monkeypatch.setattr(efficientnet, "weight_files", lambda _: (bad,))
    with pytest.raises(EncoderError, match=r"lite0\.pth is not the pinned file"):
        loaded(spec, runtime, tmp_path / "models")
    assert not list((tmp_path / "models").glob("*"))


@pytest.mark.parametrize("size", [*ODD_SIZES, (1, 77), (499, 333)], ids=str)
@pytest.mark.parametrize("resampling", ["bilinear", "bicubic"])
def test_resize_crop_is_torchvisions(size: tuple[int, int], resampling: str) -> None:
    """Resizing and cropping equal torchvision's Resize and CenterCrop on PIL pictures of odd sizes, bit for bit."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    picture = scene(*size)
    for shorter, side in ((256, 224), (235, 224), (232, 224), (224, 224), (37, 32)):
        mode = InterpolationMode(resampling)
        expected = Compose([Resize(shorter, mode), CenterCrop(side)])(Image.fromarray(picture))
        assert np.array_equal(ResizeCrop(side, side, shorter, resampling)(picture), np.asarray(expected))


def test_stretching_is_torchvisions() -> None:
    """Without a shorter side the picture is stretched to the input's size, as torchvision's Resize((h, w)) does."""
    from torchvision.transforms import InterpolationMode, Resize

    for size in ODD_SIZES:
        expected = Resize((48, 32), InterpolationMode.BICUBIC)(Image.fromarray(scene(*size)))
        assert np.array_equal(ResizeCrop(48, 32, filter="bicubic")(scene(*size)), np.asarray(expected))


def test_centre_square_by_hand() -> None:
    """A picture as large as the input loses only its sides; what is cut away leaves no trace."""
    picture = np.zeros((4, 9, 3), np.uint8)
    picture[:, :, 0] = np.arange(9) * 20
    picture[:, :, 1] = np.arange(4)[:, None] * 50
    wide = picture[:, :8]
    assert np.array_equal(CentreSquare(4)(wide), wide[:, 2:6])
    tall = np.ascontiguousarray(wide.transpose(1, 0, 2))
    assert np.array_equal(CentreSquare(4)(tall), tall[2:6])
    # an odd rest is cut half a pixel from each side: 9 columns become 2.5 to 6.5, which lie 10 higher
    ramp = CentreSquare(4)(picture)
    assert np.abs(ramp[:, :, 0].astype(int) - (np.arange(4) * 20 + 50)).max() <= 1
    assert np.array_equal(ramp[:, :, 1], picture[:, :4, 1])


@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_centre_square_has_no_side(size: tuple[int, int]) -> None:
    """A mirrored picture gives the mirrored input, but for rounding: the square lies in the exact centre."""
    picture = scene(*size)
    straight = CentreSquare(24)(picture).astype(int)
    for axis in (0, 1):
        mirrored = CentreSquare(24)(np.ascontiguousarray(np.flip(picture, axis)))
        assert np.abs(np.flip(mirrored, axis).astype(int) - straight).max() <= 1
