"""EfficientNet-Lite0 as a function of Pixeltable, which wants it in a module of its own."""

from functools import cache
from typing import Any

import pixeltable as pxt
from pixeltable.func import Batch

from tests.benchmarks.opponents.work import BATCH, network, transform


@cache
def _net() -> Any:
    return network(), transform()


@pxt.udf(batch_size=BATCH)
def lite0(images: Batch[pxt.Image]) -> Batch[pxt.Array[(1280,), pxt.Float]]:
    """Unit vectors of photos."""
    import torch

    net, prepare = _net()
    with torch.inference_mode():
        pixels = torch.stack([prepare(image.convert("RGB")) for image in images])
        return list(torch.nn.functional.normalize(net(pixels)).numpy())
