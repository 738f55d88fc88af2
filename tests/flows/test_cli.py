from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from config.params import PipelineParams
from flows import cli
from flows.starter import starter
from tests.flows.runs import params_for
from tests.tiny import write_collection

COMMANDS = ("init", "demo", "run", "ingest", "align", "evaluate", "search", "status", "doctor", "plan", "update",
            "spaces", "extend", "promote", "rollback", "diff", "quarantine", "gc", "deploy", "schedule",
            "compare", "curve", "suggest", "finetune", "lsa", "caption")  # fmt: skip


def call(*words: str) -> int:
    """Exit code of `modalign` with these words."""
    try:
        cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def sets(params: PipelineParams) -> list[str]:
    """The params as --set options."""
    out = [f"encode.encoders={json.dumps(params.encode.encoders)}", f"encode.shard_items={params.encode.shard_items}"]
    out += [f"align.method={params.align.method}", f"align.dim={params.align.dim}", f"align.pca={params.align.pca}"]
    out += [f"assess.draws={params.assess.draws}", f"assess.controls={params.assess.controls}"]
    return [word for option in out for word in ("--set", option)]


@pytest.mark.parametrize("command", [*COMMANDS, "quarantine list", "quarantine retry", "quarantine drop"])
def test_every_command_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help of each command says what it does and shows an example of its own."""
    assert call(*command.split(), "--help") == 0
    shown = capsys.readouterr().out
    if command == "quarantine":  # its commands follow
        return
    assert f"modalign {command}" in shown.split("Usage", 1)[1].split("\n", 1)[1] or "Example" in shown
    assert "--workspace" in shown
    assert "--json" in shown


def test_the_readme_names_every_command() -> None:
    """Both READMEs have a line for each command, and no command is missing here."""
    names = {name for names in cli.app for name in [names] if not name.startswith("-")}
    assert names == set(COMMANDS)
    for readme in ("README.md", "README.zh-CN.md"):
        text = (Path(cli.__file__).parent.parent / readme).read_text(encoding="utf-8")
        assert all(f"`modalign {name}" in text for name in COMMANDS), readme


def test_the_starter_is_the_defaults(workspace_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`init` writes a file that parses, whose every line uncommented gives the defaults; a second one needs --force."""
    assert call("init") == 0
    path = Path("modalign.toml")
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {"settings": {}, "params": {name: {} for name in (
        "columns", "preprocess", "encode", "index", "mine", "align", "finetune", "lsa", "assess", "gate", "refit",
        "keep")}}  # fmt: skip
    assert call("init") == 2
    assert call("init", "--force") == 0
    assert path.with_suffix(".toml.bak").exists()
    said = [line.removeprefix("# ") for line in starter().splitlines() if "unset by default" not in line]
    told = tomllib.loads("\n".join(line for line in said if line.startswith("[") or " = " in line))
    assert PipelineParams.model_validate(told["params"]) == PipelineParams()


def test_bad_input_is_one_line_and_exit_code_2(
    workspace_env: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each mistake a user can make before work begins costs one line that names it, and exit code 2."""
    write_collection(workspace_env.parent / "shapes", 4)
    mistakes = [
        (["search", "dog"], "holds no space yet"),
        (["search"], "a query is a text"),
        (["run", "nowhere", "--profile", "nothing"], "no profile 'nothing'"),
        (["run", "shapes", "--set", "align.method=magic"], "align.method"),
        (["run", "shapes", "--set", "align.methd=cca"], "align.methd"),
        (["run", "shapes", "--set", "novalue"], "is not key=value"),
        (["run", "shapes", "--colour", "red"], "--colour"),
        (["run"], "SOURCE"),
        (["serch", "dog"], "serch"),
        (["align"], "holds no collection"),
        (["evaluate"], "holds no space yet"),
    ]
    for words, part in mistakes:
        assert call(*words) == 2, words
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("modalign: ")
        assert part in lines[0]


def test_a_broken_config_stops_before_work(
    workspace_env: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A modalign.toml with a wrong value or that is no TOML stops the run with its name; the workspace stays empty."""
    for text, part in (("[params.align]\ndim = 'wide'\n", "align.dim"), ("[params\n", "modalign.toml")):
        Path("modalign.toml").write_text(text)
        assert call("run", "demo:openmoji") == 2
        assert part in capsys.readouterr().err
    assert not workspace_env.exists()


def test_a_whole_session(
    prefect_server: None,
    tiny_encoders: dict[str, tuple[str, ...]],
    workspace_env: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """ingest, align, evaluate, search and status work one after the other; --json is JSON of the documented form."""
    source = write_collection(workspace_env.parent / "shapes", 40)
    options = sets(params_for(source, tiny_encoders))
    assert call("ingest", str(source), "--json", *options) == 0
    assert json.loads(capsys.readouterr().out)["ingest"]["rows"] == 40
    assert call("align", "--json", *options) == 0
    assert json.loads(capsys.readouterr().out)["space"]["space"]["name"] == "shapes"
    assert call("evaluate", "--json", *options) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert {"split", "rsum", "rsum_raw"} <= set(metrics)
    assert call("search", "a red circle", "--to", "image", "-k", "3", "--json") == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert len(hits) == 3
    assert Path(hits[0]["path"]).is_file()
    assert call("search", "--file", str(source / "0000.png"), "-k", "2") == 0
    assert "→ text in shapes" in capsys.readouterr().out
    assert call("status", "--json") == 0
    (space,) = json.loads(capsys.readouterr().out)["spaces"]
    assert space["rsum"] == round(metrics["rsum"], 1)
    assert call("status") == 0
    assert call("run", str(source), *options) == 0
    shown = capsys.readouterr().out
    assert "nothing was pending" in shown
    assert "shuffled control" in shown


def test_the_doctor_finds_this_machine_well(
    workspace_env: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the tested environment nothing is wrong; a pin that is broken is named, with exit code 1."""
    assert call("doctor", "--json") == 0
    checks = {check["name"]: check["level"] for check in json.loads(capsys.readouterr().out)["checks"]}
    assert {"python", "prefect", "fastapi", "sqlalchemy", "torch", "disk", "names", "builtin:minilm"} <= set(checks)
    assert "wrong" not in checks.values()
    from flows import doctor

    monkeypatch.setitem(doctor.PINS, "sqlalchemy", ("<1", "scheduled runs are never created"))
    assert call("doctor") == 1
    assert "scheduled runs are never created" in capsys.readouterr().out
