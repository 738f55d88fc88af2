from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tasks.encoders.openvino_runner import OpenVinoRunner, save
from tasks.encoders.protocol import EncoderError
from tests.tasks.encoders.parts import OPENVINO, run_python


@pytest.fixture
def doubler(tmp_path: Path) -> Path:
    """A model of `(b, 2)` float32 that doubles."""
    from openvino import Model, Type
    from openvino import opset13 as op

    x = op.parameter([-1, 2], Type.f32)
    save(Model([op.result(op.add(x, x))], [x], "doubler"), tmp_path)
    return tmp_path


def batch(number: float, rows: int = 3) -> tuple[np.ndarray, ...]:
    """One input of equal numbers."""
    return (np.full((rows, 2), number, np.float32),)


def test_results_in_order(doubler: Path) -> None:
    """Each batch has its own result at its own place, whichever core was first."""
    runner = OpenVinoRunner(doubler, OPENVINO, threads=2)
    for count in (0, 1, 2, 100):
        results = runner.run([batch(number) for number in range(count)])
        assert [float(one[0, 0]) for one in results] == [2.0 * number for number in range(count)]


def test_refused_batch_leaves_nothing_behind(doubler: Path) -> None:
    """After a batch of a wrong shape, which is refused, the next run's results are its own."""
    runner = OpenVinoRunner(doubler, OPENVINO, threads=2)
    for _ in range(20):
        with pytest.raises(Exception, match=r"(?i)shape"):
            runner.run([batch(7, rows=2_000), batch(7, rows=2_000), (np.zeros((3, 5), np.float32),)])
        assert [float(one[0, 0]) for one in runner.run([batch(1), batch(2)])] == [2.0, 4.0]


def test_fixed_shape(doubler: Path) -> None:
    """A fixed shape takes the place of the free one that was saved."""
    runner = OpenVinoRunner(doubler, OPENVINO, threads=1, shape=(3, 2))
    assert runner.run([batch(1)])[0].shape == (3, 2)
    with pytest.raises(Exception, match=r"(?i)shape"):
        runner.run([batch(1, rows=4)])


def test_damaged_model_is_named(doubler: Path) -> None:
    """A converted model that cannot be read is named with its folder, and what to do."""
    (doubler / "model.xml").write_text("<net")
    with pytest.raises(EncoderError, match="cannot be read") as caught:
        OpenVinoRunner(doubler, OPENVINO, threads=1)
    assert str(doubler) in caught.value.message
    assert caught.value.mend == "delete that folder"


def test_telemetry_is_off(tmp_path: Path) -> None:
    """Building and running a text model imports neither OpenVINO's telemetry, which sends statistics, nor torch."""
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tasks.encoders.protocol import Runtime\n"
        "from tasks.encoders.registry import resolve\n"
        "from tasks.encoders.sentence import load\n"
        "runtime = Runtime('openvino', 'float32', 'cpu')\n"
        "load(resolve('builtin:minilm'), runtime, 'fresh', Path(sys.argv[1]), 1).encode(['a cat'])\n"
        "assert 'openvino' in sys.modules\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    run_python(script, str(tmp_path))
