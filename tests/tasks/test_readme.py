from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

from tests.tiny import save_encoders

HOUSE = Path(__file__).parents[2]
_BLOCK = re.compile(r"^   ```python\n(.*?)^   ```$", re.MULTILINE | re.DOTALL)
NEAR, MAPS = ("left", "right", "top", "bottom"), 48


def follow(readme: str, house: Path) -> list[str]:
    """Do what the steps say in a copy of the house: write each new file, add each literal to its tuple."""
    done = []
    for block in _BLOCK.findall(readme):
        title, code = textwrap.dedent(block).split("\n", 1)
        path, _, place = title.removeprefix("# ").partition(", in ")
        done.append(title)
        if not place:
            (house / path).write_text(code)
            continue
        text = (house / path).read_text()
        begin = re.search(rf"^{place}\b.*?(?=^ *\)$)", text, re.MULTILINE | re.DOTALL)
        assert begin is not None, f"{path} has no {place}"
        (house / path).write_text(text[: begin.end()] + code.rstrip() + ",\n" + text[begin.end() :])
    return done


def write_maps(root: Path) -> Path:
    """Depth maps that are near on one side, with the words for it, and one that is no map."""
    root.mkdir()
    lines = []
    for number in range(MAPS):
        depth = np.random.default_rng(number).uniform(4, 6, (24, 32)).astype(np.float32)
        side = NEAR[number % 4]
        half = {"left": np.s_[:, :16], "right": np.s_[:, 16:], "top": np.s_[:12], "bottom": np.s_[12:]}[side]
        depth[half] /= 3
        np.save(root / f"{number:02}.npy", depth)
        lines.append({"file_name": f"{number:02}.npy", "caption": f"a bar at the {side}"})
    (root / "broken.npy").write_bytes((root / "00.npy").read_bytes()[:-9])
    lines.append({"file_name": "broken.npy", "caption": "a bar at the left"})
    (root / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def test_the_steps_that_add_an_encoder_and_a_modality(tmp_path: Path) -> None:
    """Followed word for word, they make a space of depth maps and words, in which words find the maps they mean."""
    house = tmp_path / "house"
    for floor in ("flows", "tasks", "storage", "config"):
        shutil.copytree(HOUSE / floor, house / floor, ignore=shutil.ignore_patterns("__pycache__", "images"))
    steps = (HOUSE / "tasks" / "README.md").read_text(encoding="utf-8")
    assert len(follow(steps[steps.index("## How to add a modality") :], house)) == 4
    _, text = save_encoders(tmp_path / "models")
    encoders = json.dumps({"depth": ["builtin:depth-profile"], "text": [text]})
    maps, words = write_maps(tmp_path / "maps"), ["-w", str(tmp_path / "data"), "--json"]
    env = os.environ | {"PYTHONPATH": str(house)}

    def modalign(*command: str) -> dict[str, object]:
        line = [sys.executable, "-m", "flows", *command, *words]
        done = subprocess.run(line, cwd=house, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2_000:]
        found: dict[str, object] = json.loads(done.stdout)
        return found

    options = [f"encode.encoders={encoders}", "align.dim=16", "align.pca=16", "assess.draws=100", "assess.controls=2"]
    told = modalign("run", str(maps), *(word for one in options for word in ("--set", one)))
    assert told["metrics"]["quarantined"] == {"maps": {"depth_broken": 1}}  # type: ignore[index]
    for side in NEAR:
        hits = modalign("search", f"a bar at the {side}", "--to", "depth", "--mode", "vector", "-k", "5")["hits"]
        assert {NEAR[int(hit["uri"][:2]) % 4] for hit in hits} == {side}  # type: ignore[attr-defined]
