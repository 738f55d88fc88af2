"""What answers questions about a collection, on disk: safetensors and JSON, never pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import StorageError, on_disk
from storage.folders import fresh_folder, replace_folder
from storage.spaces import read_json, write_json

_ARRAYS, _CONFIG = "model.safetensors", "config.json"


def save_answering(folder: Path, arrays: Mapping[str, npt.NDArray[Any]], config: Mapping[str, Any]) -> None:
    """Write the arrays and the config, all or nothing; a former model goes."""
    from safetensors.numpy import save

    with on_disk(f"the answers in {folder}"):
        fresh = fresh_folder(folder)
        plain = {name: np.asarray(one, order="C") for name, one in arrays.items()}
        (fresh / _ARRAYS).write_bytes(save(plain))
        write_json(fresh / _CONFIG, config)
        replace_folder(fresh, folder)


def load_answering(folder: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]] | None:
    """Arrays and config; None where nothing was saved. Raises `StorageError` when they are damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / _CONFIG).is_file():
        return None
    try:
        return load_file(str(folder / _ARRAYS)), read_json(folder / _CONFIG)
    except (OSError, SafetensorError, ValueError) as error:
        raise StorageError(f"{folder} cannot be read ({error})", "run `modalign evaluate-answers` again") from error
