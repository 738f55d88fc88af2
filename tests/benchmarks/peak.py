"""The most bf16 operations a second that this machine's libraries get out of it, on large square matrices."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from tasks.encoders.runtime import cpu_count

_SIDE, _ROUNDS = 3_072, 5


def peaks() -> dict[str, float]:
    """Operations a second of torch (oneDNN) and of OpenVINO, on all CPUs of this process, the fastest of some rounds.

    Whether OpenVINO multiplied in bf16 is the hint's to decide: where it did not, it is simply slower.
    """
    return {"torch": _best(_torch()), "openvino": _best(_openvino())}


def _best(product: Callable[[], object]) -> float:
    product()
    took = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        product()
        took.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / min(took)


def _torch() -> Callable[[], object]:
    import torch

    torch.set_num_threads(cpu_count())
    x, y = (torch.randn(_SIDE, _SIDE).to(torch.bfloat16) for _ in range(2))
    return lambda: torch.mm(x, y)


def _openvino() -> Callable[[], object]:
    import openvino as ov
    from openvino import opset13 as ops

    generator = np.random.default_rng(0)
    x, y = (generator.standard_normal((_SIDE, _SIDE), np.float32) for _ in range(2))
    entry = ops.parameter([_SIDE, _SIDE], np.float32)
    model = ov.Model([ops.matmul(entry, ops.constant(y), False, False)], [entry])
    options = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": cpu_count(), "NUM_STREAMS": 1}
    request = ov.Core().compile_model(model, "CPU", options).create_infer_request()
    request.set_input_tensor(ov.Tensor(x))
    return request.infer
