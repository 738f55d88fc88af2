"""``frames:<image encoder>[?…]`` → spec: any encoder of images reads the frames of a video."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl, urlencode

from tasks.encoders.pooling import checked_pool
from tasks.encoders.protocol import EncoderError, EncoderSpec, Pool
from tasks.encoders.sampling import Evenly, Every, Sampling, Scenes

_OWN = ("n", "every", "scenes", "pool")
_FRAMES = 8


def frames_name(name: str) -> tuple[str, Sampling, Pool]:
    """The image encoder's name, which frames it reads, and how their vectors are pooled.

    Raises `EncoderError` for two policies at once and for values out of range.

    >>> frames_name("frames:local:vit?pooling=cls&every=2&pool=max")
    ('local:vit?pooling=cls', Every(seconds=2.0), 'max')
    """
    place, _, query = name.removeprefix("frames:").partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    own = {key: value for key, value in options if key in _OWN}
    rest = urlencode([option for option in options if option[0] not in _OWN], safe="/:")
    pool = checked_pool(name, own.pop("pool", "mean"))
    if len(own) > 1:
        raise EncoderError(f"{name}: {' and '.join(own)} are two ways to choose frames", "keep one of them")
    inner = f"{place}?{rest}" if rest else place
    return inner, _sampling(name, *(own.popitem() if own else ("n", str(_FRAMES)))), pool


def _sampling(name: str, way: str, value: str) -> Sampling:
    try:
        number = float(value) if way == "every" else int(value)
    except ValueError:
        number = 0
    if not 0 < number <= 1_000_000:
        raise EncoderError(f"{name}: {way}={value} is not understood", "use n=8, every=2.5 (seconds) or scenes=8")
    return Every(number) if way == "every" else (Evenly if way == "n" else Scenes)(int(number))


def frames_spec(name: str, inner: EncoderSpec) -> EncoderSpec:
    """The spec of `inner`, an encoder of images, as a reader of videos."""
    _, sampling, pool = frames_name(name)
    return replace(
        inner,
        name=name,
        modality="video",
        loader="tasks.encoders.frames:load",
        sampling=f"{sampling}, {pool}",
        pool=pool,
        inner=inner,
    )
