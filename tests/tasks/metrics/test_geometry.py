from __future__ import annotations

import numpy as np
import pytest

from tasks.metrics.geometry import modality_gap


def test_the_gap_is_how_far_a_shift_moves() -> None:
    """Shifting one cloud by a vector makes the gap that vector's length, in any rotation and order of rows."""
    generator = np.random.default_rng(0)
    cloud = generator.normal(size=(200, 3)).astype(np.float32)
    shift = np.array([0.3, -0.4, 1.2], np.float32)
    assert modality_gap(cloud, cloud[::-1]) == pytest.approx(0, abs=1e-6)
    assert modality_gap(cloud, cloud + shift) == pytest.approx(1.3, abs=1e-5)
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0].astype(np.float32)
    assert modality_gap(cloud @ rotation, (cloud + shift) @ rotation) == pytest.approx(1.3, abs=1e-5)
