"""Sound models of the transformers library on torch: wav2vec 2.0, HuBERT, WavLM, AST, Whisper's encoder, CLAP's tower.

What a window becomes is computed by the library's own feature extractor, with the parameters that were saved beside the
model.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoders.automodel import place_of, quiet, read_model
from tasks.encoders.automodel_names import options_of
from tasks.encoders.lasting import Inputs, LastingEncoder, in_batches
from tasks.encoders.protocol import EncoderError, EncoderSpec, Runtime
from tasks.encoders.shapes import rows_of_parts
from tasks.encoders.torch_runner import TorchRunner
from tasks.encoders.windows import Samples, Windows

_SECONDS = 5.0  # of a window, for models that take any length


def load(
    spec: EncoderSpec,
    runtime: Runtime,
    fingerprint: str,
    models_dir: Path,  # noqa: ARG001 - all loaders are called alike; torch keeps nothing
    threads: int,
) -> LastingEncoder:
    """The encoder on torch."""
    where, revision = place_of(spec)
    model, extract = read_model(where, revision), _extractor(where, revision)
    kind = str(model.config.model_type)
    rate = int(extract.sampling_rate)
    own = own_seconds(kind, extract)
    options = options_of(spec.name)
    seconds = float(options.get("window") or own or _SECONDS)
    hop = float(options.get("hop") or seconds / 2)
    if not 0 < hop <= seconds <= (own or math.inf):
        longest = f"{own:g} s at most, and " if own else ""
        raise EncoderError(
            f"{spec.name}: a window of {seconds:g} s every {hop:g} s does not fit",
            f"use {longest}a hop no longer than the window",
        )
    length = round(seconds * rate)
    module, prepare = _MODELS[kind]
    split = Windows(rate, length, max(round(hop * rate), 1), partial(prepare, extract, length))
    runner = TorchRunner(module(model), runtime, threads=threads)
    return LastingEncoder(spec, runtime, fingerprint, split, partial(in_batches, runner, rows_of_parts(spec, runtime)))


def own_seconds(kind: str, extract: Any) -> float | None:
    """The length in seconds that a model's features are made for; None where it takes any."""
    if kind == "clap":
        return float(extract.nb_max_samples / extract.sampling_rate)
    if kind == "whisper":
        return float(extract.n_samples / extract.sampling_rate)
    if kind == "audio-spectrogram-transformer":  # frames of 25 ms every 10 ms
        return float(extract.max_length * 0.01 + 0.015)
    return None


def _extractor(where: str, revision: str | None) -> Any:
    library: Any = importlib.import_module("transformers")
    pinned: dict[str, Any] = {"local_files_only": True} if revision is None else {"revision": revision}
    try:
        with quiet():
            return library.AutoFeatureExtractor.from_pretrained(where, trust_remote_code=False, **pinned)
    except (OSError, ValueError, KeyError, ImportError) as error:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(
            f"{where}: its feature extractor cannot be loaded ({cause})",
            "save preprocessor_config.json beside the model",
        ) from error


def _waveform(extract: Any, length: int, samples: Samples) -> Inputs:
    """Samples `(length,)`, scaled as the model wants them and then filled up with zeros, and how many are real."""
    values = extract(samples, sampling_rate=extract.sampling_rate, return_tensors="np")["input_values"][0]
    return np.pad(values.astype(np.float32), (0, length - len(values))), np.array(len(values))


def _features(name: str, extract: Any, length: int, samples: Samples) -> Inputs:  # noqa: ARG001 - it fills up itself
    """The extractor's features of a window, and how many of its samples are real."""
    found = extract(samples, sampling_rate=extract.sampling_rate, return_tensors="np")[name][0]
    return found.astype(np.float32), np.array(len(samples))


def _module(model: Any, pooled: Callable[[Any, Any, Any], Any]) -> Any:
    """A torch module around a model: features and counts of samples → `(n, dim)` by `pooled`."""
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, features: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
            values = features.to(next(self.model.parameters()).dtype)
            return torch.as_tensor(pooled(self.model, values, counts).float())

    return Pooled().eval()


def _mean(hidden: Any, lengths: Any) -> Any:
    """The mean of the first `lengths` states `(n,)`, at least one, of hidden states `(n, t, d)`."""
    import torch

    kept = torch.arange(hidden.shape[1], device=hidden.device)[None, :] < lengths.clamp(min=1)[:, None]
    mask = kept.float().unsqueeze(-1)
    return (hidden.float() * mask).sum(1) / mask.sum(1)


def _of_waveform(model: Any) -> Any:
    masked = model.config.feat_extract_norm == "layer"  # the others were trained without a mask

    def pooled(net: Any, values: Any, counts: Any) -> Any:
        import torch

        mask = torch.arange(values.shape[1], device=values.device)[None, :] < counts[:, None]
        hidden = net(values, attention_mask=mask.long() if masked else None).last_hidden_state
        return _mean(hidden, net._get_feat_extract_output_lengths(counts))  # noqa: SLF001 - there is no public name

    return _module(model, pooled)


def _of_whisper(model: Any) -> Any:
    encoder = model.get_encoder()
    stride = 2 * 160  # samples a state: a frame every 160, halved by the second convolution

    def pooled(net: Any, values: Any, counts: Any) -> Any:
        return _mean(net(values).last_hidden_state, (counts + stride - 1) // stride)

    return _module(encoder, pooled)


def _of_spectrogram(model: Any) -> Any:
    return _module(model, lambda net, values, _: net(values).pooler_output)


def _of_clap(model: Any) -> Any:
    def pooled(net: Any, values: Any, _: Any) -> Any:
        return net.get_audio_features(input_features=values).pooler_output

    return _module(model, pooled)


_MODELS: dict[str, tuple[Callable[[Any], Any], Callable[[Any, int, npt.NDArray[np.float32]], Inputs]]] = {
    "wav2vec2": (_of_waveform, _waveform),
    "hubert": (_of_waveform, _waveform),
    "wavlm": (_of_waveform, _waveform),
    "whisper": (_of_whisper, partial(_features, "input_features")),
    "audio-spectrogram-transformer": (_of_spectrogram, partial(_features, "input_values")),
    "clap": (_of_clap, partial(_features, "input_features")),
}
