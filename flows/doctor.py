"""Is this machine fit to run modalign? Checks that look things up, and change nothing unless they are told to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from packaging.specifiers import SpecifierSet

from config.settings import Settings
from flows.guard import shadowed

# pins that bite: what goes wrong beyond them
PINS = {
    "prefect": (">=3.8,<3.9", "later releases want packages that are not served yet"),
    "fastapi": (">=0.139,<0.151", "Prefect's server does not start"),
    "sqlalchemy": (">=2.0,<2.1", "scheduled runs are never created"),
    "lancedb": (">=0.40,<0.41", "table formats and query options were measured on this release"),
}
_LEAST_DISK = 5e9


@dataclass(frozen=True)
class Check:
    """One finding: good, note (works, but know it) or wrong (mend it)."""

    level: Literal["good", "note", "wrong"]
    name: str
    text: str


def examine(settings: Settings, *, fix: bool = False) -> list[Check]:
    """All checks. With `fix` what killed runs left in Prefect is closed."""
    lasting = [
        *_versions(),
        *_torch_pair(),
        *_device(settings),
        *_encoders(),
        *_disk(settings),
        *_tables(settings),
        *_names(),
    ]
    return [*lasting, *_killed(settings, fix=fix), *_servers()]


def _versions() -> Iterator[Check]:
    python = platform.python_version()
    fit = sys.version_info >= (3, 11)
    yield Check("good" if fit else "wrong", "python", python if fit else f"{python}: modalign needs 3.11 or later")
    for name, (pin, consequence) in PINS.items():
        version = _version(name)
        if version is None:
            yield Check("wrong", name, "not installed; install modalign with its constraints file")
        elif SpecifierSet(pin).contains(version):
            yield Check("good", name, f"{version} (pin {pin})")
        else:
            yield Check("wrong", name, f"{version} is outside {pin}: {consequence}; install with the constraints file")


def _torch_pair() -> Iterator[Check]:
    torch, vision = _version("torch"), _version("torchvision")
    if torch is None or vision is None:
        yield Check("wrong", "torch", "torch and torchvision are needed; install with the constraints file")
        return
    wanted = next((need for need in importlib.metadata.requires("torchvision") or [] if need.startswith("torch==")), "")
    pair = wanted.partition("==")[2].split(";")[0].strip()
    if pair and torch.split("+")[0] != pair:
        yield Check(
            "wrong", "torch", f"torchvision {vision} was built for torch {pair}, here is {torch}: operators are missing"
        )
    else:
        yield Check("good", "torch", f"{torch} with torchvision {vision}")


def _device(settings: Settings) -> Iterator[Check]:
    from tasks.encoders.registry import SPECS
    from tasks.encoders.runtime import choose, cpu_count

    for modality in ("image", "text"):
        spec = next(one for one in SPECS.values() if one.modality == modality)
        yield Check("good", f"runtime {modality}", f"{choose(spec, settings.device)}, {cpu_count()} CPUs")


def _encoders() -> Iterator[Check]:
    from tasks.encoders.registry import available

    for spec, reason in available():
        about = f"{spec.dim}-d, {spec.licence}"
        yield Check("note" if reason else "good", spec.name, reason or about)


def _disk(settings: Settings) -> Iterator[Check]:
    folder = settings.workspace
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    level: Literal["good", "note"] = "good" if free > _LEAST_DISK else "note"
    yield Check(level, "disk", f"{free / 1e9:,.0f} GB free for {settings.workspace}")
    if not os.access(folder, os.W_OK):
        yield Check("wrong", "workspace", f"{folder} may not be written; choose another with --workspace")


def _tables(settings: Settings) -> Iterator[Check]:
    from storage.errors import StorageError
    from storage.remote import is_remote
    from storage.workspace import Workspace

    store = Workspace(root=settings.workspace, tables_uri=settings.tables_uri).store
    if not is_remote(store.uri):
        return
    try:
        yield Check("good", "tables", f"{len(store.names())} tables at {store.uri}")
    except (StorageError, OSError) as error:
        yield Check("wrong", "tables", " ".join(str(error).split()))


def _names() -> Iterator[Check]:
    found = shadowed()
    for name, where in found:
        yield Check("wrong", "names", f"{name} is shadowed by {where}; use a virtual environment of its own")
    if not found:
        yield Check("good", "names", "flows, tasks, storage and config are ours")


def _killed(settings: Settings, *, fix: bool) -> Iterator[Check]:
    from flows.orphans import crash_dead, killed_runs

    killed = killed_runs(settings.workspace)
    if not (fix and killed):
        for one in killed:
            text = f"{one.label} was killed; Prefect may still call it running; modalign doctor --fix closes it"
            yield Check("note", "runs", text)
        return
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            lines = crash_dead(client, settings.workspace)
    except Exception as error:  # noqa: BLE001 - whatever keeps Prefect's server from answering
        why = " ".join(str(error).split()) or type(error).__name__
        yield Check("wrong", "runs", f"what killed runs left cannot be closed in Prefect ({why}); start its server")
    else:
        yield from (Check("good", "runs", line) for line in lines)


def _servers() -> Iterator[Check]:
    from flows.orphans import orphaned_servers

    for one in orphaned_servers():
        text = (
            f"a killed run left its local Prefect server (port {one.port}, since {one.since}); end it: kill {one.pid}"
        )
        yield Check("note", "server", text)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
