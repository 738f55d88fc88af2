"""The command line `modalign`. A command is thin: it reads the options, starts a flow or asks the query core, shows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Group, Parameter

if TYPE_CHECKING:
    from config.params import PipelineParams
    from config.settings import Settings
    from tasks.refs import Outcome

_COMMON = Group("Common options", sort_key=9)

app = App(
    name="modalign",
    help="Bring frozen encoders of different modalities into one searchable joint space.",
    help_format="markdown",
    version_flags=["--version"],
    help_epilogue="Start with `modalign demo`, then `modalign run my-photos`.",
)


@Parameter(name="*", group=_COMMON)
@dataclass(frozen=True)
class Common:
    """Options that every command takes."""

    workspace: Annotated[Path | None, Parameter(alias="-w")] = None
    """Folder of tables, spaces, results cache and reports (default ./modalign-data)."""
    profile: str | None = None
    """Params by name (demo, small, best, classic, strong) or a TOML file."""
    set: Annotated[list[str], Parameter(negative="")] = field(default_factory=list)
    """Override a param: --set align.method=ridge (repeatable)."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print the result as JSON on standard output, and nothing else there."""
    debug: Annotated[bool, Parameter(negative="")] = False
    """Show tracebacks."""


_DEFAULT = Common()


@app.command
def init(*, force: bool = False, common: Common = _DEFAULT) -> None:
    """Write a commented modalign.toml into this folder.

    Examples: `modalign init` · `modalign init --force`
    """
    from flows.starter import write_starter

    path = write_starter(Path.cwd(), force=force)
    _say(common, {"written": str(path)}, f"wrote {path.name}; edit it, then: modalign run SOURCE")


@app.command
def demo(*, common: Common = _DEFAULT) -> None:
    """Run the whole pipeline on the packaged OpenMoji collection, then a few searches.

    Needs no account, no server and no download. Examples: `modalign demo` · `modalign demo -w /tmp/try`
    """
    outcome = _run("demo:openmoji", None, common, profile="demo")
    if outcome is None:
        return
    from flows.showcase import show_demo

    show_demo(_settings(common), outcome)


@app.command
def run(
    source: str,
    /,
    *,
    collection: str | None = None,
    refresh: Annotated[bool, Parameter(negative="")] = False,
    common: Common = _DEFAULT,
) -> None:
    """Run the whole pipeline on SOURCE: a folder, a table (CSV, Parquet, JSON lines) or demo:openmoji.

    Examples: `modalign run photos` · `modalign run photos --profile best --json` ·
    `modalign run pairs.csv --set align.method=ridge`

    Parameters
    ----------
    source
        Folder with metadata.jsonl, .csv or .parquet, a table of paths, or demo:openmoji.
    collection
        Name of the collection; without it the folder's name.
    refresh
        Compute everything anew, whatever the cache holds.
    """
    outcome = _run(source, collection, common, refresh=refresh)
    if outcome is None:
        return
    from flows.tables import show_ingest, show_metrics, show_next

    show_ingest(outcome.ingested)
    show_metrics(outcome.score.metrics)
    show_next(_settings(common))


@app.command
def ingest(
    source: str,
    /,
    *,
    collection: str | None = None,
    refresh: Annotated[bool, Parameter(negative="")] = False,
    common: Common = _DEFAULT,
) -> None:
    """Scan, preprocess and encode SOURCE, without fitting a space.

    Example: `modalign ingest photos --profile small`
    """
    params, settings = _params(source, collection, common, refresh=refresh)
    with _session(settings, common):
        from flows.ingest import ingest as flow

        done = flow(params)
    if common.json:
        _print({"ingest": done.model_dump(mode="json")})
        return
    from flows.tables import show_ingest

    show_ingest(done)


@app.command
def align(*, collections: str | None = None, name: str | None = None, common: Common = _DEFAULT) -> None:
    """Fit, project, index and publish a space on collections that are ingested.

    Examples: `modalign align` · `modalign align --collections photos,stock --name all`

    Parameters
    ----------
    collections
        Names separated by commas; without them the one that was ingested last.
    name
        Name of the space; without it the collections' names joined by `+`.
    """
    params, settings = _params(None, None, common)
    with _session(settings, common):
        from flows.align_collections import align_collections

        aligned = align_collections(params, _names(collections), name)
    space = aligned.space
    _say(
        common,
        {"space": aligned.model_dump(mode="json")},
        f"space {space.name} ({space.space_id}): {space.method} on {space.pairs:,} pairs, width {space.dim}, "
        f"index {aligned.index.index.kind} with recall@10 {aligned.index.index.recall:.3f}; next: modalign evaluate",
    )


@app.command
def evaluate(*, space: str | None = None, split: str | None = None, common: Common = _DEFAULT) -> None:
    """Measure a published space on the groups it has not seen.

    Examples: `modalign evaluate` · `modalign evaluate --space photos --split val --json`

    Parameters
    ----------
    space
        Name of the space; without it the one published last.
    split
        test, val or heldout; without it the first of these that is there.
    """
    params, settings = _params(None, None, common)
    with _session(settings, common):
        from flows.assess import assess
        from flows.context import in_force

        measure = params.assess if split is None else params.assess.model_copy(update={"split": split})
        metrics = assess(measure, in_force(space), params.refresh_cache).metrics
    if common.json:
        _print({"metrics": metrics})
        return
    from flows.tables import show_metrics

    show_metrics(metrics)


@app.command
def search(
    text: str | None = None,
    /,
    *,
    file: Path | None = None,
    to: str | None = None,
    k: Annotated[int, Parameter(alias="-k")] = 10,
    space: str | None = None,
    mode: Literal["auto", "vector", "text", "hybrid"] = "auto",
    common: Common = _DEFAULT,
) -> None:
    """Search a space with a TEXT or a file.

    Examples: `modalign search "something to eat" --to image -k 5` · `modalign search --file dog.png --to text` ·
    `modalign search 猫`

    Parameters
    ----------
    text
        What to search for, in words.
    file
        A media file to search with.
    to
        Modality of the hits: image, text, …; without it the first one that is not the query's own.
    k
        Number of hits.
    space
        Name of the space; without it the one published last.
    mode
        vector, text (full text), hybrid (both, fused), or auto.
    """
    from config.errors import UserError

    if (text is None) == (file is None):
        raise UserError(
            "search takes a text or --file, one of them", 'for instance: modalign search "a dog" --to image'
        )
    settings = _settings(common)
    from storage.workspace import Workspace
    from tasks.search import Searcher

    searcher = Searcher(
        Workspace(root=settings.workspace, tables_uri=settings.tables_uri), space, device=settings.device
    )
    if text is not None:
        answer = searcher.by_text(text, target=to, k=k, mode=mode)
    else:
        assert file is not None
        answer = searcher.by_file(file, target=to, k=k)
    if common.json:
        _print(asdict(answer))
        return
    from flows.tables import show_answer

    show_answer(answer)


@app.command
def status(*, common: Common = _DEFAULT) -> None:
    """Show what the workspace holds: collections, encoders, spaces, quarantine.

    Example: `modalign status --json`
    """
    from flows.overview import overview

    facts = overview(_settings(common))
    if common.json:
        _print(facts)
        return
    from flows.tables import show_status

    show_status(facts)


@app.command
def doctor(*, common: Common = _DEFAULT) -> None:
    """Check versions, pins that bite, the device, encoders, disk and names; exit code 1 when something is wrong.

    Example: `modalign doctor`
    """
    from flows.doctor import examine

    checks = examine(_settings(common))
    if common.json:
        _print({"checks": [asdict(check) for check in checks]})
    else:
        from flows.tables import show_checks

        show_checks(checks)
    if any(check.level == "wrong" for check in checks):
        sys.exit(1)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line on `words` (without them, the process's own).

    Exit code 0 for success, 2 for bad input, 1 for a failed run, 130 when it was interrupted.
    """
    words = list(sys.argv[1:] if words is None else words)
    try:
        app(words, exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        print("modalign: stopped; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if "--debug" in words:
            raise
        from flows.errors import explain

        code, line = explain(error)
        print(f"modalign: {line}", file=sys.stderr)
        sys.exit(code)


def _run(
    source: str, collection: str | None, common: Common, *, profile: str | None = None, refresh: bool = False
) -> Outcome | None:
    """Run the pipeline; with --json print its result, and give nothing more to show."""
    params, settings = _params(source, collection, common, profile=profile, refresh=refresh)
    with _session(settings, common):
        from flows.pipeline import pipeline

        outcome = pipeline(params)
    if not common.json:
        return outcome
    from flows.summaries import stage_table

    done = outcome.ingested
    told = done.model_dump(mode="json", include={"collection", "rows", "quarantined", "seconds"})
    _print({"metrics": outcome.score.metrics, "ingest": told | {"stages": stage_table(done)}})
    return None


def _settings(common: Common) -> Settings:
    if common.workspace is not None:
        # the flows read their settings from the environment, as they do in a deployment
        os.environ["MODALIGN_WORKSPACE"] = str(common.workspace.expanduser().absolute())
    from config.settings import Settings

    return Settings()


def _params(
    source: str | None,
    collection: str | None,
    common: Common,
    *,
    profile: str | None = None,
    refresh: bool = False,
) -> tuple[PipelineParams, Settings]:
    from config.loading import load_profile

    settings = _settings(common)
    name = common.profile or profile or settings.profile
    given = {"source": source, "collection": collection, "refresh_cache": refresh or None}
    return load_profile(name, common.set, **given), settings


def _session(settings: Settings, common: Common) -> Any:
    """Results in the workspace, progress and log lines on the terminal."""
    from flows.environment import keep_results_in

    keep_results_in(settings.workspace / "results")
    from flows.terminal import terminal

    return terminal(debug=common.debug)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _print(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _say(common: Common, value: dict[str, Any], line: str) -> None:
    if common.json:
        _print(value)
    else:
        print(line)
