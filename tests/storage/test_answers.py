from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from storage.answers import load_answering, save_answering
from storage.errors import StorageError


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    """Arrays of any layout and the config come back as they were; a later one takes the place of the first, whole."""
    folder = tmp_path / "asked"
    assert load_answering(folder) is None
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    save_answering(folder, {"one": turned, "two": np.ones(2, np.float16)}, {"answers": ["猫"]})
    save_answering(folder, {"one": turned}, {"answers": ["猫", "狗"]})
    found = load_answering(folder)
    assert found is not None
    assert list(found[0]) == ["one"]
    assert np.array_equal(found[0]["one"], turned)
    assert found[1] == {"answers": ["猫", "狗"]}


def test_a_damaged_model_says_what_to_do(tmp_path: Path) -> None:
    """Half a file is told by name with its mend, and nothing is guessed."""
    save_answering(tmp_path / "asked", {"one": np.ones(100)}, {})
    file = tmp_path / "asked" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(StorageError, match="evaluate-answers"):
        load_answering(tmp_path / "asked")
