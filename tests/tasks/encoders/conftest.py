"""Models that are converted once and serve all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import save_encoders


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where converted models are kept."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Names of the tiny random encoders: image (ViT) and text (BERT)."""
    image, text = save_encoders(tmp_path_factory.mktemp("tiny"))
    return {"image": image, "text": text}
