"""A torch module on its runtime: converted to OpenVINO once and kept, or run by torch itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tasks.encoders.keep import keep
from tasks.encoders.openvino_runner import OpenVinoRunner, openvino, save
from tasks.encoders.protocol import Array, Runtime


class Runs(Protocol):
    """Anything that maps batches of inputs to batches of raw vectors."""

    def run(self, batches: Iterable[tuple[npt.NDArray[Any], ...]]) -> list[Array]:
        """Outputs `(rows, dim)` float32 of each batch, in order; of a text's tokens `(rows, length, width)`."""


def load_runner(
    module: Callable[[], Any], runtime: Runtime, folder: Path, threads: int, *, example: npt.NDArray[Any]
) -> Runs:
    """What runs `module()`, a torch module of one input shaped and typed as `example`, all rows of a batch.

    On OpenVINO `module()` is called once, converted and kept in `folder`; torch is not needed again.
    """
    if runtime.name == "openvino":
        kept = keep(folder, lambda fresh: _convert(module(), example, fresh))
        return OpenVinoRunner(kept, runtime, threads=threads, shape=example.shape)
    from tasks.encoders.torch_runner import TorchRunner

    return TorchRunner(module(), runtime, threads=threads)


@contextmanager
def _silent() -> Iterator[None]:
    """Tracing warns of every shape it takes as fixed, which is what we want, and reads attributes that log advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _convert(module: Any, example: npt.NDArray[Any], folder: Path) -> None:
    import torch

    with torch.inference_mode(), _silent():
        model = openvino().convert_model(module.eval().float(), example_input=torch.from_numpy(np.array(example)))
    model.reshape([-1, *example.shape[1:]])
    save(model, folder)
