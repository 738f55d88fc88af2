"""A BERT or MPNet cut before its last blocks: the lower part stays as it is and is run once, the upper part learns."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.automodel import read_model
from tasks.encoders.automodel_names import read_object
from tasks.encoders.bert_graph import knows
from tasks.encoders.protocol import EncoderError, Pooling
from tasks.encoders.runtime import has_bf16

if TYPE_CHECKING:
    from torch import Tensor, nn

_COPIED = ("config.json", "tokenizer.json")


class LastBlocks:
    """The model in `folder`, its last `count` blocks apart. On the CPU, in bf16 where that pays.

    Raises `EncoderError` for a model of another kind, or one with no block left before those.
    """

    def __init__(self, folder: Path, count: int, pooling: Pooling) -> None:
        config = read_object(str(folder), folder / "config.json")
        depth = int(config.get("num_hidden_layers", 0))
        if not knows(config):
            raise EncoderError(f"{folder} holds no BERT or MPNet", "name another text encoder")
        if not 0 < count < depth:
            raise EncoderError(f"the encoder has {depth} blocks, so {count} of them cannot be trained", "take fewer")
        self.width = int(config["hidden_size"])
        self._folder, self._depth, self._count, self._pooling = folder, depth, count, pooling
        self._lower, self._upper = read_model(str(folder), None), read_model(str(folder), None)
        del self._lower.encoder.layer[depth - count :]
        del self._upper.encoder.layer[: depth - count]
        self._upper.embeddings = _given()
        for name, value in self._upper.named_parameters():
            value.requires_grad_(name.startswith("encoder.layer."))

    def parameters(self) -> list[nn.Parameter]:
        """What is trained: all of the last blocks."""
        return [value for value in self._upper.parameters() if value.requires_grad]

    def lower(self, ids: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float16]]:
        """Token ids of some texts → what enters the last blocks, (tokens, width) a text."""
        import torch

        lengths = torch.tensor([len(one) for one in ids])
        padded = torch.zeros(len(ids), int(lengths.max()), dtype=torch.long)
        for row, one in enumerate(ids):
            padded[row, : len(one)] = torch.tensor(one)
        with torch.inference_mode(), _precision():
            hidden = self._lower(input_ids=padded, attention_mask=_mask(lengths, padded.shape[1])).last_hidden_state
        states = hidden.to(torch.float16).numpy()
        return [one[:length] for one, length in zip(states, lengths.tolist(), strict=True)]

    def upper(self, states: Sequence[npt.NDArray[np.float16]]) -> Tensor:
        """What enters the last blocks → pooled vectors (n, width) float32, with a gradient where one is wanted."""
        import torch

        lengths = torch.tensor([len(one) for one in states])
        padded = torch.zeros(len(states), int(lengths.max()), self.width)
        for row, one in enumerate(states):
            padded[row, : len(one)] = torch.from_numpy(np.asarray(one, np.float32))
        mask = _mask(lengths, padded.shape[1])
        with _precision():
            hidden = self._upper(inputs_embeds=padded, attention_mask=mask).last_hidden_state.float()
        if self._pooling == "cls":
            return torch.as_tensor(hidden[:, 0])
        return torch.as_tensor((hidden * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1))

    def copy(self) -> list[Tensor]:
        """The trained parameters as they are now."""
        return [value.detach().clone() for value in self.parameters()]

    def restore(self, values: Sequence[Tensor]) -> None:
        """Put back what `copy` gave."""
        for value, kept in zip(self.parameters(), values, strict=True):
            value.data.copy_(kept)

    def save(self, folder: Path) -> None:
        """Write the whole model with its tokenizer to `folder`: all but the last blocks bit for bit as it was."""
        from safetensors.torch import load_file, save_file

        weights = load_file(str(self._folder / "model.safetensors"))
        lead = next(lead for lead in ("", "bert.", "mpnet.") if f"{lead}embeddings.LayerNorm.weight" in weights)
        for name, value in self._upper.named_parameters():
            if value.requires_grad:
                _, _, number, rest = name.split(".", 3)
                place = f"{lead}encoder.layer.{int(number) + self._depth - self._count}.{rest}"
                assert weights[place].shape == value.shape
                weights[place] = value.detach().contiguous()
        save_file(weights, str(folder / "model.safetensors"), {"format": "pt"})
        for name in _COPIED:
            shutil.copyfile(self._folder / name, folder / name)


def _mask(lengths: Tensor, width: int) -> Tensor:
    import torch

    return (torch.arange(width)[None, :] < lengths[:, None]).long()


def _precision() -> Any:
    import torch

    return torch.autocast("cpu", torch.bfloat16, enabled=has_bf16())


def _given() -> nn.Module:
    """In place of the embeddings: what is given goes on as it is."""
    from torch import nn

    class Given(nn.Module):
        def forward(self, inputs_embeds: Tensor, **_: Any) -> Tensor:
            return inputs_embeds

    return Given()
