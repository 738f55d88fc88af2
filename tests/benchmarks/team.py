"""A team on one machine: the very lines of flows/README.md, with an S3 server, PostgreSQL and two workers."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from storage.workspace import Workspace
from tests.benchmarks.results import record, table
from tests.flows.law import built, differences, projection_faults, repeated
from tests.tiny import draw, save_encoders, write_collection

HOUSE = Path(__file__).parents[2]
PICTURES = 60
PORTS = {"9000": "19000", "5433": "15433", "4200": "14200"}
"""Of the README, and here, where another server may have those."""

_BLOCKS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


def blocks() -> list[str]:
    """The blocks of the section, in their order, with the ports of this benchmark."""
    text = (HOUSE / "flows" / "README.md").read_text(encoding="utf-8")
    section = text.split("### A team: S3 and PostgreSQL\n")[1].split("\n### ")[0]
    for theirs, ours in PORTS.items():
        section = section.replace(theirs, ours)
    return _BLOCKS.findall(section)


def main() -> None:
    """Run the lines, check what they leave, and record."""
    if shutil.which("postgres") is None:
        print("team: skipped, there is no `postgres` in the PATH")
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("team: ended from outside"))  # the servers end as well
    root = Path(tempfile.mkdtemp(prefix="modalign-team-"))
    root.chmod(0o755)  # PostgreSQL runs as another user where this one is root
    team = Team(root)
    try:
        _measure(team)
    finally:
        team.end()
        shutil.rmtree(root, ignore_errors=True)


class Team:
    """A shell that runs block after block of the README, in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        bin_ = root / "bin"
        bin_.mkdir()
        for name, words in {"python": "", "modalign": "-P -m flows", "prefect": "-P -m prefect"}.items():
            _script(bin_ / name, f'exec "{sys.executable}" {words} "$@"')
        if os.geteuid() == 0:  # PostgreSQL refuses root
            _as_postgres(bin_, root)
        image, text = save_encoders(root / "encoders")
        (root / "profile.toml").write_text(
            f"[encode]\nencoders = {{ image = [{json.dumps(image)}], text = [{json.dumps(text)}] }}\n"
            '[align]\nmethod = "cca"\ndim = 16\npca = 32\n[assess]\ndraws = 100\ncontrols = 2\n'
        )
        ours = ("PREFECT_", "AWS_", "MODALIGN_")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.env |= {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "PYTHONPATH": str(HOUSE),
            "HOME": str(root),
            "PREFECT_HOME": str(root / "prefect"),
            "PREFECT_SERVER_API_PORT": PORTS["4200"],
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "NO_PROXY": "127.0.0.1",
            "MODALIGN_PROFILE": str(root / "profile.toml"),
        }
        self.shell = subprocess.Popen(
            ["bash"], cwd=root, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def run(self, block: str) -> tuple[float, str]:
        """Seconds of a block, and what it printed. Raises when a line of it fails."""
        assert self.shell.stdin is not None
        assert self.shell.stdout is not None
        begun = time.perf_counter()
        self.shell.stdin.write(
            f"set -e; trap 'echo ENDED-1' EXIT\n{{\n{block}\n}} < /dev/null\ntrap - EXIT; set +e; echo ENDED-0\n"
        )
        self.shell.stdin.flush()
        said = []
        for line in self.shell.stdout:
            if line.startswith("ENDED-"):
                if line.strip() != "ENDED-0":
                    raise RuntimeError(f"the README's lines failed:\n{block}\n{''.join(said)}")
                break
            said.append(line)
        return time.perf_counter() - begun, "".join(said)

    def requests(self) -> Counter[str]:
        """Requests that the S3 server has answered so far, by method."""
        return Counter(re.findall(r'"(?:\x1b\[[\d;]*m)*([A-Z]+) /', (self.root / "s3.log").read_text()))

    def api(self, path: str, body: dict[str, Any]) -> Any:
        """What Prefect's server answers."""
        data = json.dumps(body).encode()
        url = f"http://127.0.0.1:{PORTS['4200']}/api/{path}"
        return json.loads(urlopen(Request(url, data, {"Content-Type": "application/json"})).read())

    def end(self) -> None:
        """End what the lines have started."""
        words = ["pg_ctl", "-D", "postgres", "-m", "fast", "stop"]
        subprocess.run(words, cwd=self.root, env=self.env, capture_output=True, check=False)
        with suppress(ProcessLookupError):
            os.killpg(self.shell.pid, signal.SIGTERM)
            time.sleep(5)
            os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()


def _measure(team: Team) -> None:
    services, variables, server, first, workers, update = blocks()
    source = write_collection(team.root / "photos", PICTURES)
    rows: list[list[object]] = []
    seconds = [team.run(block)[0] for block in (services, variables)]
    rows.append(["storage and database", sum(seconds), ""])
    rows.append(["Prefect's server, a new database on PostgreSQL", team.run(server)[0], ""])
    before = team.requests()
    rows.append(["run, search, deploy", team.run(first)[0], _told(team.requests() - before)])
    picture, words = draw(75)
    picture.save(source / "new.png")
    with (source / "metadata.jsonl").open("a") as file:
        file.write(json.dumps({"file_name": "new.png", "caption": words}) + "\n")
    team.run(workers)
    _await(lambda: len(team.api("work_pools/modalign/workers/filter", {})) == 2)
    before, begun = team.requests(), time.perf_counter()
    team.run(update)
    updates = {"deployments": {"name": {"any_": ["update"]}}}
    runs = _await(lambda: _all_ended(team.api("flow_runs/filter", updates)))
    states = Counter(run["state_type"] for run in runs)
    took = time.perf_counter() - begun
    rows.append(["an update of one row by one of two workers", took, _told(team.requests() - before)])
    assert states == {"COMPLETED": 1, "CANCELLED": 1}, [(run["state_type"], run["state"]["message"]) for run in runs]
    before = team.requests()
    took, _ = team.run("modalign update --json > update.json")
    rows.append(["`modalign update`, nothing new", took, _told(team.requests() - before)])
    _check(team)
    asked = "select pg_database_size('prefect')"
    _, size = team.run(f'psql -h 127.0.0.1 -p {PORTS["5433"]} -U prefect -Atc "{asked}" prefect')
    told = (
        f"The lines of flows/README.md, but for the ports, on {PICTURES} drawn pictures with two captions each and "
        "tiny encoders: moto's server, PostgreSQL, Prefect's server, two workers in folders of their own. Two updates "
        "started at once: one completed, one cancelled. Afterwards no key stands twice, the space is the projection of "
        "its items, and the rows equal those of a fresh build on disk. Another workspace over the same tables is "
        f"refused. Prefect's database holds {int(size) / 1e6:.0f} MB.\n\n"
        f"{table(['step', 'seconds', 'S3 requests'], rows)}"
    )
    record("team", "A team: S3 and PostgreSQL", told)


def _check(team: Team) -> None:
    """The law of updates, and the claim."""
    for line in (team.root / "team.env").read_text().splitlines():
        for pair in line.removeprefix("export ").split():
            name, _, value = pair.partition("=")
            os.environ[name] = value
    tables = Workspace(root=team.root / "shared", tables_uri=os.environ["MODALIGN_TABLES_URI"]).store
    fresh = "env -u MODALIGN_TABLES_URI MODALIGN_WORKSPACE=$PWD/fresh modalign run $PWD/photos"
    team.run(fresh)
    assert differences(built(tables), built(Workspace(root=team.root / "fresh").store)) == []
    assert repeated(tables) == []
    assert projection_faults(tables, "photos") == []
    _, said = team.run("mkdir -p other; MODALIGN_WORKSPACE=$PWD/other modalign rollback photos 2>&1 || true")
    assert "belong to another workspace" in said, said


def _told(requests: Counter[str]) -> str:
    return f"{sum(requests.values()):,}: " + ", ".join(f"{count:,} {name}" for name, count in requests.most_common())


def _all_ended(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    started = [run for run in runs if not run["auto_scheduled"]]
    return started if len(started) == 2 and all(run["state_type"] in _ENDED for run in started) else []


def _await(found: Callable[[], Any], seconds: float = 240.0) -> Any:
    end = time.monotonic() + seconds
    while not (out := found()):
        if time.monotonic() > end:
            raise TimeoutError("the workers have not done it")
        time.sleep(1)
    return out


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def _as_postgres(bin_: Path, root: Path) -> None:
    """PostgreSQL's programs as its own user; its folder and log are that user's."""
    user = pwd.getpwnam("postgres")
    (root / "postgres").mkdir()
    os.chown(root / "postgres", user.pw_uid, user.pw_gid)
    (root / "postgres.log").touch()
    os.chown(root / "postgres.log", user.pw_uid, user.pw_gid)
    as_user = f"setpriv --reuid={user.pw_uid} --regid={user.pw_gid} --clear-groups"
    for name in ("initdb", "pg_ctl"):
        _script(bin_ / name, f'exec {as_user} {shutil.which(name)} "$@"')
