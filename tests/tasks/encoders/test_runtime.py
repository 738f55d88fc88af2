from __future__ import annotations

import pytest

from tasks.encoders import runtime, shapes
from tasks.encoders.protocol import EncoderError, EncoderSpec
from tasks.encoders.registry import SPECS, resolve
from tasks.encoders.runtime import choose

PLAIN = frozenset({"avx2", "fma"})
AVX512 = PLAIN | {"avx512f", "avx512_bf16"}
AMX = AVX512 | {"amx_bf16", "amx_tile"}
ALL = frozenset({"openvino", "torch"})

TEXT, IMAGE = SPECS["builtin:minilm"], SPECS["builtin:efficientnet-lite0"]
SOUND, LOGMEL = SPECS["builtin:aisfx"], SPECS["builtin:logmel"]
FRAMES = resolve("frames:builtin:efficientnet-lite0")
CLIPS = resolve("torchvision:R3D_18_Weights.KINETICS400_V1")
OTHER = EncoderSpec("local:x", "text", 8, "r", "l", "tasks.encoders.automodel:load_text", "mean", "x")
"""A text model for which there is no OpenVINO graph."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> object:
    """Sets what this machine is: its CPU's flags, the packages installed, whether it has a CUDA device."""

    def be(flags: frozenset[str], packages: frozenset[str] = ALL, *, cuda: bool = False) -> None:
        monkeypatch.setattr(runtime, "cpu_flags", lambda: flags)
        monkeypatch.setattr(runtime, "installed", lambda module: module in packages)
        monkeypatch.setattr(runtime, "has_cuda", lambda: cuda)

    return be


@pytest.mark.parametrize(
    ("flags", "packages", "spec", "expected"),
    [
        # pictures go to OpenVINO, in bf16 where the CPU multiplies it
        (AMX, ALL, IMAGE, "openvino bfloat16 on cpu"),
        (AVX512, ALL, IMAGE, "openvino bfloat16 on cpu"),
        (PLAIN, ALL, IMAGE, "openvino float32 on cpu"),
        (frozenset(), ALL, IMAGE, "openvino float32 on cpu"),
        # BERT and MPNet: torch with AMX, else OpenVINO
        (AMX, ALL, TEXT, "torch bfloat16 on cpu"),
        (AVX512, ALL, TEXT, "openvino bfloat16 on cpu"),
        (PLAIN, ALL, TEXT, "openvino float32 on cpu"),
        (frozenset(), ALL, TEXT, "openvino float32 on cpu"),
        # other text models have torch alone
        (AMX, ALL, OTHER, "torch bfloat16 on cpu"),
        (AVX512, ALL, OTHER, "torch bfloat16 on cpu"),
        (PLAIN, ALL, OTHER, "torch float32 on cpu"),
        # sounds of convolutions and frames as pictures, networks of videos on torch, what has no weights on NumPy
        (AVX512, ALL, SOUND, "openvino bfloat16 on cpu"),
        (PLAIN, {"torch"}, SOUND, "torch float32 on cpu"),
        (AVX512, ALL, FRAMES, "openvino bfloat16 on cpu"),
        (PLAIN, {"torch"}, FRAMES, "torch float32 on cpu"),
        (AVX512, ALL, CLIPS, "torch bfloat16 on cpu"),
        (AMX, ALL, LOGMEL, "numpy float32 on cpu"),
        (PLAIN, set(), LOGMEL, "numpy float32 on cpu"),
        # without OpenVINO
        (AMX, {"torch"}, IMAGE, "torch bfloat16 on cpu"),
        (AVX512, {"torch"}, TEXT, "torch bfloat16 on cpu"),
        (PLAIN, {"torch"}, TEXT, "torch float32 on cpu"),
        (PLAIN, {"torch"}, IMAGE, "torch float32 on cpu"),
        # without torch
        (AMX, {"openvino"}, TEXT, "openvino bfloat16 on cpu"),
        (PLAIN, {"openvino"}, TEXT, "openvino float32 on cpu"),
        (AVX512, {"openvino"}, IMAGE, "openvino bfloat16 on cpu"),
        # half of AMX is no AMX
        (PLAIN | {"amx_tile"}, ALL, TEXT, "openvino float32 on cpu"),
    ],
)
def test_choice_on_cpus(machine, flags, packages, spec: EncoderSpec, expected: str) -> None:  # type: ignore[no-untyped-def]
    """The runtime follows from the CPU's flags, the installed packages and the kind of model; auto is cpu here."""
    machine(flags, frozenset(packages))
    assert str(choose(spec, "cpu")) == expected
    assert choose(spec, "auto") == choose(spec, "cpu")


@pytest.mark.parametrize("spec", [TEXT, IMAGE, OTHER, SOUND, FRAMES, CLIPS])
def test_choice_with_cuda(machine, spec: EncoderSpec) -> None:  # type: ignore[no-untyped-def]
    """A CUDA device is used for everything, in bf16, unless the cpu is asked for."""
    machine(PLAIN, cuda=True)
    assert str(choose(spec, "auto")) == str(choose(spec, "cuda")) == "torch bfloat16 on cuda"
    assert choose(spec, "cpu").device == "cpu"


def test_refusals(machine) -> None:  # type: ignore[no-untyped-def]
    """An absent CUDA device, an unknown device and a machine without a runtime are refused, with the mend."""
    machine(PLAIN)
    with pytest.raises(EncoderError, match="no CUDA device was found; use device auto or cpu"):
        choose(TEXT, "cuda")
    with pytest.raises(EncoderError, match="device 'gpu' is unknown; use one of auto, cpu, cuda"):
        choose(TEXT, "gpu")
    machine(PLAIN, frozenset())
    with pytest.raises(EncoderError, match="nothing installed runs builtin:minilm"):
        choose(TEXT)
    machine(PLAIN, frozenset({"openvino"}))
    with pytest.raises(EncoderError, match="nothing installed runs local:x"):
        choose(OTHER)


def test_cuda_can_be_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty or negative CUDA_VISIBLE_DEVICES hides every device, whatever the machine holds."""
    for value in ("", "-1", " "):
        runtime.has_cuda.cache_clear()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        assert not runtime.has_cuda()
    runtime.has_cuda.cache_clear()


def test_images_in_a_batch(machine) -> None:  # type: ignore[no-untyped-def]
    """Batches of pictures: 1 in fp32, 4 in bf16, 16 in bf16 with AMX, 64 on CUDA."""
    rows = {}
    for name, flags in (("amx", AMX), ("avx512", AVX512), ("plain", PLAIN)):
        machine(flags)
        rows[name] = shapes.rows_of_images(choose(IMAGE, "cpu"))
    machine(PLAIN, cuda=True)
    rows["cuda"] = shapes.rows_of_images(choose(IMAGE))
    assert rows == {"amx": 16, "avx512": 4, "plain": 1, "cuda": 64}


def test_every_length_has_a_bucket() -> None:
    """Each possible length has the smallest bucket that holds it, and a batch of it has at least one row."""
    for longest in (8, 18, 64, 256, 384, 512):
        sizes = shapes.buckets(longest)
        assert sizes[-1] == longest
        assert list(sizes) == sorted(set(sizes))
        for length in range(1, longest + 1):
            size = shapes.bucket(length, sizes)
            assert length <= size
            assert all(other < length for other in sizes if other < size)
            assert shapes.rows_of_texts(size, choose(TEXT, "cpu")) >= 1
