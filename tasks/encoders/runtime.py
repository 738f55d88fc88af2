"""Which runtime an encoder gets on this machine, decided from plain facts: no torch or OpenVINO import."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from functools import lru_cache
from pathlib import Path

from tasks.encoders.protocol import Dtype, EncoderError, EncoderSpec, Runtime

DEVICES = ("auto", "cpu", "cuda")


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Instruction sets of the first CPU as the kernel names them; empty where it does not say (not Linux, not x86)."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("flags"):
                return frozenset(line.partition(":")[2].split())
    except OSError:
        pass
    return frozenset()


def has_amx() -> bool:
    """The CPU multiplies bf16 matrices in tiles: bf16 pays for transformers too."""
    return {"amx_bf16", "amx_tile"} <= cpu_flags()


def has_bf16() -> bool:
    """The CPU multiplies bf16 at all. Elsewhere bf16 is emulated, many times slower than fp32."""
    return has_amx() or "avx512_bf16" in cpu_flags()


@lru_cache(maxsize=8)
def installed(module: str) -> bool:
    """`module` can be imported; it is only looked up.

    >>> installed("numpy"), installed("no_such_module_here")
    (True, False)
    """
    return importlib.util.find_spec(module) is not None


@lru_cache(maxsize=1)
def has_cuda() -> bool:
    """An NVIDIA driver with a visible device, asked through NVML, and a torch with CUDA in it, not imported."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    if not any((Path(spec.origin).parent / "lib").glob("*torch_cuda*")):
        return False
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint(0)
        found = nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0
        nvml.nvmlShutdown()
    except (OSError, AttributeError):
        return False
    return found and count.value > 0


def cpu_count() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose(spec: EncoderSpec, device: str = "auto") -> Runtime:
    """The runtime of `spec` on this machine, measured best (README): CUDA bf16; OpenVINO for all but texts where it
    can; for texts torch on AMX, else OpenVINO where we have the graph (BERT, MPNet), else torch. On CPUs bf16 where it
    pays, else fp32. What is computed without weights runs on NumPy.

    Raises `EncoderError` for an unknown device, for `cuda` where there is none, and where no runtime is installed.
    """
    if device not in DEVICES:
        raise EncoderError(f"device {device!r} is unknown", f"use one of {', '.join(DEVICES)}")
    if device == "cuda" and not has_cuda():
        raise EncoderError("no CUDA device was found", "use device auto or cpu")
    if spec.inner is not None:
        return choose(spec.inner, device)
    if "numpy" in spec.runtimes:
        return Runtime("numpy", "float32", "cpu")
    if device != "cpu" and has_cuda():
        return Runtime("torch", "bfloat16", "cuda")
    openvino, torch = ("openvino" in spec.runtimes and installed("openvino")), installed("torch")
    dtype: Dtype = "bfloat16" if has_bf16() else "float32"
    if spec.modality == "text":
        if torch and has_amx():
            return Runtime("torch", "bfloat16", "cpu")
        if openvino and spec.loader.startswith("tasks.encoders.sentence:"):
            return Runtime("openvino", dtype, "cpu")
    elif openvino:
        return Runtime("openvino", dtype, "cpu")
    if torch:
        return Runtime("torch", dtype, "cpu")
    raise EncoderError(f"nothing installed runs {spec.name}", "install openvino or torch")
