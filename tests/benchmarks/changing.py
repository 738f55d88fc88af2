"""A copy of a benchmark collection that changes as real ones do: captions, pictures, paths; rows that come and go."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


class Changing:
    """`root` is a copy of `source`: split folders with metadata.jsonl and `captions` in each row."""

    def __init__(self, source: Path, root: Path, *, seed: int) -> None:
        shutil.copytree(source, root, symlinks=False)
        self.root = root
        self._draw = np.random.default_rng(seed)
        self._gone: list[tuple[str, dict[str, Any], bytes]] = []
        self._count = 0

    def change(self, share: float) -> int:
        """Change this share of the rows, in equal parts by kind; give their number.

        A changed caption, a replaced picture, a moved one, a removed row, and a row that was removed and comes back.
        """
        rows = {split.name: _read(split) for split in sorted(self.root.iterdir()) if split.is_dir()}
        places = [(split, number) for split, many in rows.items() for number in range(len(many))]
        count = round(share * len(places))
        chosen = [places[i] for i in self._draw.choice(len(places), count, replace=False)]
        back = self._gone[: count // 5]
        del self._gone[: len(back)]
        for step, (split, number) in enumerate(chosen):
            row = rows[split][number]
            path = self.root / split / row["file_name"]
            self._count += 1
            if step % 5 == 0:
                row["captions"][0] = f"{row['captions'][0]} ({self._count})"
            elif step % 5 == 1:
                path.write_bytes(_again(path.read_bytes(), self._count))
            elif step % 5 == 2:
                row["file_name"] = f"moved-{self._count}.jpg"
                path.rename(path.with_name(row["file_name"]))
            elif step % 5 == 3:
                self._gone.append((split, dict(row), path.read_bytes()))
                path.unlink()
                row["file_name"] = ""
        for split, row, picture in back:
            (self.root / split / row["file_name"]).write_bytes(picture)
            rows[split].append(row)
        for split, many in rows.items():
            lines = [json.dumps(row) for row in many if row["file_name"]]
            (self.root / split / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return count


def _read(split: Path) -> list[dict[str, Any]]:
    lines = (split / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _again(data: bytes, number: int) -> bytes:
    """The picture with one corner painted: other bytes, much the same vector."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    picture.paste((number % 256, number // 256 % 256, 90), (0, 0, 6, 6))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()
