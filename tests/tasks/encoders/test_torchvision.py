from __future__ import annotations

import os
import re
from collections import OrderedDict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.encoders.protocol import EncoderError, Runtime
from tasks.encoders.registry import resolve
from tasks.encoders.torchvision_models import network, penultimate_module
from tasks.encoders.torchvision_names import WEIGHTS
from tests.tasks.encoders.parts import ODD_SIZES, OPENVINO, TORCH, cosines, damaged, loaded, scene, sha256

RESNET = "ResNet18_Weights.IMAGENET1K_V1"


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch.hub's folder of weights, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def publish(monkeypatch: pytest.MonkeyPatch, weights: str, folder: Path, state: dict[str, Any]) -> Path:
    """Save weights under the name that torchvision's naming rule gives them, and let the enum's entry point there.

    Only the address is changed: hash, cache folder, download and reading are torch's and ours.
    """
    import torch
    from torchvision import models

    torch.save(state, folder / "fresh.pth")
    path = (folder / "fresh.pth").rename(folder / f"{weights.lower()[:8]}-{sha256(folder / 'fresh.pth')[:8]}.pth")
    monkeypatch.setattr(models.get_weight(weights).value, "url", path.as_uri())
    return path


def random_net(name: str) -> Any:
    """A torchvision network with random weights, and batch statistics as after training."""
    import torch
    from torchvision import models

    torch.manual_seed(0)
    net = models.get_model(name, weights=None)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return net.eval()


@pytest.mark.parametrize("weights", list(WEIGHTS))
def test_presets_are_torchvisions(weights: str) -> None:
    """Resize, crop and filter of the table are those of the installed torchvision's own preset, and the file that it
    would fetch carries its hash in its name.
    """
    from torchvision import models

    _, shorter, side, resampling = WEIGHTS[weights]
    entry = models.get_weight(weights)
    preset = entry.transforms()
    assert (preset.resize_size, preset.crop_size) == ([shorter], [side])
    assert preset.interpolation.value == resampling
    prefix = entry.url.rpartition("-")[2].removesuffix(".pth")
    assert len(prefix) >= 8
    int(prefix, 16)


@cache
def entering_the_last_layer(weights: str) -> tuple[int, ...]:
    """Shape of what enters the last linear layer of the network for two pictures: on the meta device, so without
    numbers.
    """
    import torch

    side = WEIGHTS[weights][2]
    seen: list[tuple[int, ...]] = []
    with torch.device("meta"), torch.inference_mode():
        net = network(weights).eval()
        last = [layer for layer in net.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
        assert net(torch.empty(2, 3, side, side)).shape == (2, 1000)
    (shape,) = seen
    return shape


@pytest.mark.parametrize("weights", list(WEIGHTS))
def test_widths_are_torchvisions(monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    """The network takes a picture of the crop's size, and what enters its last linear layer is as wide as the table
    says.
    """
    import torch
    from torchvision.models.regnet import BlockParams

    from_init_params = BlockParams.from_init_params

    def on_cpu(**wanted: Any) -> Any:
        with torch.device("cpu"):  # RegNet computes its widths with tensors
            return from_init_params(**wanted)

    monkeypatch.setattr(BlockParams, "from_init_params", on_cpu)
    width, _, side, _ = WEIGHTS[weights]
    model = weights.partition("_Weights")[0]
    same = next(one for one in WEIGHTS if one.partition("_Weights")[0] == model and WEIGHTS[one][2] == side)
    assert entering_the_last_layer(same) == (2, width)
    assert resolve(f"torchvision:{weights}").dim == width


def test_table_holds_every_classifier_of_its_families() -> None:
    """No weights of a family in the table are left out, so that a near name is always the right advice."""
    from torchvision import models

    families = {weights.partition(".")[0] for weights in WEIGHTS}
    known = {
        str(entry)
        for name in models.list_models(module=models)
        for entry in models.get_model_weights(name)
        if str(entry).partition(".")[0] in families
    }
    assert known == set(WEIGHTS)


def test_moving_weights_are_refused() -> None:
    """DEFAULT is refused, and the message names the exact weights to write instead."""
    with pytest.raises(EncoderError, match="DEFAULT moves") as caught:
        resolve("torchvision:ResNet50_Weights.DEFAULT")
    assert caught.value.mend == "write ResNet50_Weights.IMAGENET1K_V1 or ResNet50_Weights.IMAGENET1K_V2"
    with pytest.raises(EncoderError, match="DEFAULT moves"):
        resolve("torchvision:NoSuchNet_Weights.default")


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("ResNet50_Weights.IMAGENET1K_V3", "ResNet50_Weights.IMAGENET1K_V2"),
        ("resnet50_weights.imagenet1k_v2", "ResNet50_Weights.IMAGENET1K_V2"),
        ("ResNet05_Weights.IMAGENET1K_V1", "ResNet50_Weights.IMAGENET1K_V1"),
        ("ResNet18", "ResNet18_Weights.IMAGENET1K_V1"),
        ("resnet18", "ResNet18_Weights.IMAGENET1K_V1"),
        ("nothing of the kind", "ResNet50_Weights.IMAGENET1K_V2"),
    ],
)
def test_unknown_weights_are_answered_by_near_ones(wrong: str, near: str) -> None:
    """Unknown weights are refused, and the message names near ones that exist."""
    with pytest.raises(EncoderError, match="are not known") as caught:
        resolve(f"torchvision:{wrong}")
    assert near in caught.value.mend
    assert all(one in WEIGHTS for one in caught.value.mend.removeprefix("write ").split(" or "))


@pytest.mark.parametrize("runtime", [OPENVINO, TORCH], ids=str)
def test_resnet_from_file_to_vector(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, runtime: Runtime
) -> None:
    """From the weight file in torch.hub's folder to the vector: what torch's own forward gives after avgpool, on the
    pictures that torchvision's own preset prepares.
    """
    import torch
    from torchvision import models

    net = random_net("resnet18")
    publish(monkeypatch, RESNET, checkpoints, net.state_dict())
    pictures = [scene(3 * height, 3 * width, height) for height, width in ODD_SIZES]
    preset = models.get_weight(RESNET).transforms()
    with torch.inference_mode():
        x = torch.stack([preset(Image.fromarray(one)) for one in pictures])
        expected = torch.nn.Sequential(OrderedDict(list(net.named_children())[:-1]))(x).flatten(1).numpy()
    encoder = loaded(resolve(f"torchvision:{RESNET}"), runtime, tmp_path / "models")
    vectors = encoder.encode([encoder.transform(one) for one in pictures]).vectors
    assert cosines(vectors, expected).min() >= 0.99999
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(vectors - units).max() < 1e-4
    assert np.abs(units[:-1] - units[1:]).max() > 1e-2


def test_fetched_weights(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that is not in the folder is fetched by torch, its hash checked, and kept there; stdout stays clean."""
    net = random_net("resnet18")
    site = tmp_path / "site"
    site.mkdir()
    path = publish(monkeypatch, RESNET, site, net.state_dict())
    module = penultimate_module(RESNET)
    assert (checkpoints / path.name).is_file()
    assert module.net.conv1.weight.equal(net.conv1.weight)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("place", ["checkpoints", "site"])
def test_damaged_weights_are_refused(
    tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A file whose bytes are not those its name promises is refused, whether it lies in the folder or is fetched."""
    folder = checkpoints if place == "checkpoints" else tmp_path / "site"
    folder.mkdir(exist_ok=True)
    path = publish(monkeypatch, RESNET, folder, random_net("resnet18").state_dict())
    damaged(path, path)
    with pytest.raises(EncoderError, match=r"cannot be loaded|is damaged"):
        penultimate_module(RESNET)
    if place == "site":
        assert not list(checkpoints.iterdir())


def test_missing_weights_name_the_file(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the weights can be neither found nor fetched, the message names the file and the folder to put it into."""
    path = publish(monkeypatch, RESNET, checkpoints, {})
    path.unlink()
    with pytest.raises(EncoderError, match=r"cannot be loaded") as caught:
        penultimate_module(RESNET)
    assert path.name in caught.value.mend


def test_weights_of_another_network_are_refused(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound file that holds other parameters is refused in one line."""
    publish(monkeypatch, RESNET, checkpoints, random_net("resnet34").state_dict())
    with pytest.raises(EncoderError, match="cannot be loaded") as caught:
        penultimate_module(RESNET)
    assert "\n" not in str(caught.value)


def test_densenet_files_bear_old_names(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DenseNet's published files name their layers norm.1 where today's modules say norm1: both are read."""
    net = random_net("densenet121")
    old = {}
    for name, value in net.state_dict().items():
        old[re.sub(r"(denselayer\d+\.)(norm|conv)(\d)", r"\1\2.\3", name)] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    publish(monkeypatch, "DenseNet121_Weights.IMAGENET1K_V1", checkpoints, old)
    module = penultimate_module("DenseNet121_Weights.IMAGENET1K_V1")
    for name, value in net.features.state_dict().items():
        assert value.equal(module.net.features.state_dict()[name])


def test_no_code_in_weights_is_run(checkpoints: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A weight file that would run code when unpickled is refused, and the code does not run."""

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    publish(monkeypatch, RESNET, checkpoints, {"conv1.weight": Evil()})
    with pytest.raises(EncoderError, match="cannot be loaded"):
        penultimate_module(RESNET)
    assert not (tmp_path / "ran").exists()
