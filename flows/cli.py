"""The command line `modalign`. A command is thin: it reads the options, starts a flow or asks the query core, shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from flows import (  # noqa: F401 - their commands register themselves
    cli_answer,
    cli_caption,
    cli_changes,
    cli_deploy,
    cli_encoders,
    cli_guidance,
    cli_report,
    cli_search,
    cli_serve,
    cli_spaces,
)
from flows.command import DEFAULT, Common, app, names_in, params_of, print_json, say, session, settings_of

if TYPE_CHECKING:
    from tasks.refs import Outcome


@app.command
def init(*, force: bool = False, common: Common = DEFAULT) -> None:
    """Write a commented modalign.toml into this folder.

    Examples: `modalign init` · `modalign init --force`
    """
    from flows.starter import write_starter

    path = write_starter(Path.cwd(), force=force)
    say(common, {"written": str(path)}, f"wrote {path.name}; edit it, then: modalign run SOURCE")


@app.command
def demo(*, collection: Literal["openmoji", "tuxpaint"] = "openmoji", common: Common = DEFAULT) -> None:
    """Run the whole pipeline on a demo collection, then a few searches.

    OpenMoji needs no account, no server and no download. Tux Paint's stamps, pictures with sentences and sounds, are
    fetched once from a Debian package (161 MB, by apt, without installing it).
    Examples: `modalign demo` · `modalign demo -w /tmp/try` · `modalign demo --collection tuxpaint`

    Parameters
    ----------
    collection
        openmoji (pictures and words) or tuxpaint (pictures, words and sounds).
    """
    if collection == "tuxpaint":
        _fetch_stamps(common)
    profile = {"openmoji": "demo", "tuxpaint": "tuxpaint"}[collection]
    outcome = _run(f"demo:{collection}", None, common, profile=profile)
    if outcome is None:
        return
    from flows import showcase

    show = {"openmoji": showcase.show_demo, "tuxpaint": showcase.show_stamps}[collection]
    show(settings_of(common), outcome)


@app.command
def run(
    source: str,
    /,
    *,
    collection: str | None = None,
    refresh: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULT,
) -> None:
    """Run the whole pipeline on SOURCE: a folder, a table (CSV, Parquet, JSON lines), demo:openmoji or demo:tuxpaint.

    Examples: `modalign run photos` · `modalign run photos --profile best --json` ·
    `modalign run pairs.csv --set align.method=ridge`

    Parameters
    ----------
    source
        Folder with metadata.jsonl, .csv or .parquet, a table of paths, demo:openmoji or demo:tuxpaint.
    collection
        Name of the collection; without it the folder's name.
    refresh
        Compute everything anew, whatever the cache holds.
    """
    outcome = _run(source, collection, common, refresh=refresh)
    if outcome is None:
        return
    from flows.tables import show_decision, show_ingest, show_metrics, show_next

    show_ingest(outcome.ingested)
    show_metrics(outcome.score.metrics)
    show_decision(outcome.decision)
    show_next(settings_of(common))


@app.command
def ingest(
    source: str,
    /,
    *,
    collection: str | None = None,
    refresh: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULT,
) -> None:
    """Scan, preprocess and encode SOURCE, without fitting a space.

    Example: `modalign ingest photos --profile small`
    """
    params, settings = params_of(source, collection, common, refresh=refresh)
    with session(settings, common):
        from flows.ingest import ingest as flow
        from flows.warm import load_meanwhile

        load_meanwhile()
        done = flow(params)
    if common.json:
        print_json({"ingest": done.model_dump(mode="json")})
        return
    from flows.tables import show_ingest

    show_ingest(done)


@app.command
def align(*, collections: str | None = None, name: str | None = None, common: Common = DEFAULT) -> None:
    """Fit, project, index and publish a space on collections that are ingested.

    Examples: `modalign align` · `modalign align --collections photos,stock --name all`

    Parameters
    ----------
    collections
        Names separated by commas; without them the one that was ingested last.
    name
        Name of the space; without it the collections' names joined by `+`.
    """
    params, settings = params_of(None, None, common)
    with session(settings, common):
        from flows.align_collections import align_collections
        from storage.workspace import Workspace
        from tasks.ingested import collections_of

        workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
        given = collections_of(workspace, names_in(collections))  # an unknown one starts no server
        aligned, decision = align_collections(params, given, name)
    space = aligned.space
    say(
        common,
        {"space": aligned.model_dump(mode="json"), "decision": decision.model_dump(mode="json")},
        f"space {space.name} ({space.space_id}): {space.method} on {space.pairs:,} pairs, width {space.dim}"
        f"{f' ({space.why})' if space.why else ''}, "
        f"index {aligned.index.index.kind} with recall@10 {aligned.index.index.recall:.3f}; {decision.event}: "
        f"{decision.reason}; next: modalign evaluate",
    )


@app.command
def evaluate(*, space: str | None = None, split: str | None = None, common: Common = DEFAULT) -> None:
    """Measure a published space on the groups it has not seen.

    Examples: `modalign evaluate` · `modalign evaluate --space photos --split val --json`

    Parameters
    ----------
    space
        Name of the space; without it the one published last.
    split
        test, val or heldout; without it the first of these that is there.
    """
    params, settings = params_of(None, None, common)
    with session(settings, common):
        from flows.assess import assess
        from flows.context import in_force

        measure = params.assess if split is None else params.assess.model_copy(update={"split": split})
        metrics = assess(measure, in_force(space), params.refresh_cache).metrics
    if common.json:
        print_json({"metrics": metrics})
        return
    from flows.tables import show_metrics

    show_metrics(metrics)


@app.command
def status(
    *, watch: Annotated[bool, Parameter(negative="")] = False, interval: float = 1.0, common: Common = DEFAULT
) -> None:
    """Show what the workspace holds: collections, encoders, spaces, quarantine; and the last runs.

    Examples: `modalign status --json` · `modalign status --watch`

    Parameters
    ----------
    watch
        Follow the run at work until it ends: its stage, rate, time left, memory, and last warnings.
    interval
        Seconds between two looks with --watch.
    """
    if watch:
        from flows.watching import follow

        follow(settings_of(common).workspace, interval, json_lines=common.json)
        return
    from flows.overview import overview

    facts = overview(settings_of(common))
    if common.json:
        print_json(facts)
        return
    from flows.tables import show_status

    show_status(facts)


@app.command
def doctor(*, fix: Annotated[bool, Parameter(negative="")] = False, common: Common = DEFAULT) -> None:
    """Check versions, pins that bite, the device, encoders, disk, names and what killed runs left.

    Exit code 1 when something is wrong. Examples: `modalign doctor` · `modalign doctor --fix`

    Parameters
    ----------
    fix
        Close the runs in Prefect whose process was killed.
    """
    from flows.doctor import examine

    checks = examine(settings_of(common), fix=fix)
    if common.json:
        print_json({"checks": [asdict(check) for check in checks]})
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


def _fetch_stamps(common: Common) -> None:
    """Check the encoders of the demo of three modalities, then fetch its stamps, unless they are there."""
    params, settings = params_of("demo:tuxpaint", None, common, profile="tuxpaint")
    with session(settings, common):
        from storage.workspace import Workspace
        from tasks.encode import check_encoders, encoders_of
        from tasks.fetch import fetch_stamps

        check_encoders(encoders_of(params), settings.device)
        fetch_stamps(Workspace(root=settings.workspace, tables_uri=settings.tables_uri))


def _run(
    source: str, collection: str | None, common: Common, *, profile: str | None = None, refresh: bool = False
) -> Outcome | None:
    """Run the pipeline; with --json print its result, and give nothing more to show."""
    params, settings = params_of(source, collection, common, profile=profile, refresh=refresh)
    with session(settings, common):
        from flows.pipeline import pipeline
        from flows.warm import load_meanwhile

        load_meanwhile()
        outcome = pipeline(params)
    if not common.json:
        return outcome
    from flows.summaries import stage_table

    done = outcome.ingested
    told = done.model_dump(mode="json", include={"collection", "rows", "quarantined", "seconds", "usage"})
    print_json({"metrics": outcome.score.metrics, "ingest": told | {"stages": stage_table(done)}})
    return None
