"""Commands about data that changes: plan, update, quarantine, upkeep, deployments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from flows.command import DEFAULT, Common, app, names_in, print_json, say, session, settings_of, writer

if TYPE_CHECKING:
    from config.params import UpdateParams

_quarantine = App(name="quarantine", help="What could not be read: list it, try it again, forget it.")
app.command(_quarantine)


@app.command
def plan(
    *,
    collections: str | None = None,
    verify: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULT,
) -> None:
    """Say what an update would do, and why, without doing it.

    Examples: `modalign plan` · `modalign plan --collections photos --json` · `modalign plan --profile best`

    Parameters
    ----------
    collections
        Names separated by commas; without them all recorded ones.
    verify
        Read every file, whatever its size and time of change say.
    """
    settings = settings_of(common)
    params = _params(collections, common, verify=verify)
    from flows.plan import plan_update
    from flows.terminal import terminal

    with terminal(debug=common.debug):
        found = plan_update(settings, params)
    if common.json:
        print_json({"plan": found.model_dump(mode="json")})
        return
    from flows.tables import show_plan

    show_plan(found)


@app.command
def update(
    *,
    collections: str | None = None,
    verify: Annotated[bool, Parameter(negative="")] = False,
    refit: Annotated[bool, Parameter(negative="")] = False,
    upkeep: bool = True,
    common: Common = DEFAULT,
) -> None:
    """Bring the workspace to what its sources hold now, at a cost in proportion to what changed.

    Searches go on meanwhile. A profile or --set given here holds for later updates as well.
    Examples: `modalign update` · `modalign update --verify` · `modalign update --profile best --refit`

    Parameters
    ----------
    collections
        Names separated by commas; without them all recorded ones.
    verify
        Read every file, whatever its size and time of change say.
    refit
        Fit a new space even if none is due; the gate decides whether it takes over.
    upkeep
        Compact and clean up at the end.
    """
    settings = settings_of(common)
    params = _params(collections, common, verify=verify, refit=refit, upkeep=upkeep)
    with session(settings, common):
        from flows.update import update as flow
        from flows.warm import load_meanwhile

        load_meanwhile()
        done = flow(params)
    if common.json:
        print_json({"update": done.model_dump(mode="json")})
        return
    from flows.tables import show_update

    show_update(done)


@app.command
def gc(*, dry_run: Annotated[bool, Parameter(negative="")] = False, common: Common = DEFAULT) -> None:
    """Free what the stated retention no longer keeps: old versions, expired spaces, unused embeddings, old results.

    Examples: `modalign gc --dry-run` · `modalign gc --set keep.spaces=1`

    Parameters
    ----------
    dry_run
        Tell what would be freed, and change nothing.
    """
    settings = settings_of(common)
    from config.loading import load_profile

    keep = load_profile(common.profile or settings.profile, common.set).keep
    with session(settings, common):
        from flows.gc import gc as flow

        done = flow(keep, dry_run)
    if common.json:
        print_json({"gc": done.model_dump(mode="json")})
        return
    from flows.tables import show_upkeep

    show_upkeep(done)


@_quarantine.command(name="list")
def list_(*, collection: str | None = None, code: str | None = None, common: Common = DEFAULT) -> None:
    """List what could not be read, and why.

    Examples: `modalign quarantine list` · `modalign quarantine list --code image_truncated --json`
    """
    from storage import catalog
    from storage.workspace import Workspace

    settings = settings_of(common)
    store = Workspace(root=settings.workspace, tables_uri=settings.tables_uri).store
    rows = catalog.faults(store, collection, code)
    if common.json:
        print_json({"quarantine": rows})
        return
    from flows.tables import show_rows

    shown = ("collection", "locator", "stage", "code", "message", "attempts", "last_seen")
    show_rows([{name: row[name] for name in shown} for row in rows], "nothing is quarantined")


@_quarantine.command
def retry(*, collection: str | None = None, code: str | None = None, common: Common = DEFAULT) -> None:
    """Have the next update read these again, though nothing about them has changed.

    Example: `modalign quarantine retry --code file_unreadable`
    """
    with writer(common, "quarantine retry") as (_, workspace):
        from storage import catalog

        count = catalog.retry_faults(workspace.store, collection, code)
    say(common, {"retried": count}, f"{count:,} will be read again by the next `modalign update`")


@_quarantine.command
def drop(*, collection: str | None = None, code: str | None = None, common: Common = DEFAULT) -> None:
    """Forget these entries. One whose file is still broken comes back when the file changes, or with --verify.

    Example: `modalign quarantine drop --code text_empty`
    """
    with writer(common, "quarantine drop") as (_, workspace):
        from storage import catalog

        count = catalog.drop_faults(workspace.store, collection, code)
    say(common, {"dropped": count}, f"{count:,} forgotten")


def _params(collections: str | None, common: Common, **more: Any) -> UpdateParams:
    from config.params import UpdateParams

    return UpdateParams(collections=names_in(collections), profile=common.profile, overrides=tuple(common.set), **more)
