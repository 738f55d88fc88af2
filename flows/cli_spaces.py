"""Commands about spaces: list them, promote one, go back, compare two."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.command import (
    DEFAULT,
    Common,
    app,
    names_in,
    params_of,
    print_json,
    say,
    session,
    settings_of,
    writer,
)


@app.command
def spaces(*, history: Annotated[bool, Parameter(negative="")] = False, common: Common = DEFAULT) -> None:
    """List the spaces: which is in force, what made each, its score, and why it is stale.

    Examples: `modalign spaces` · `modalign spaces --history`

    Parameters
    ----------
    history
        Show every promotion, refusal and roll-back instead.
    """
    from flows.spaces import entries_of, list_spaces
    from storage.workspace import Workspace

    settings = settings_of(common)
    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    rows = (
        [
            {
                "name": e.name,
                "at": e.at.strftime("%Y-%m-%d %H:%M:%S"),
                "event": e.event,
                "space": e.space_id,
                "why": e.reason,
            }
            for e in entries_of(workspace, None)
        ]
        if history
        else list_spaces(workspace)
    )
    if common.json:
        print_json({"spaces": rows})
        return
    from flows.tables import show_rows, show_spaces

    if history:
        show_rows(rows, "nothing has been promoted yet")
    else:
        show_spaces(rows)


@app.command
def extend(*, space: str | None = None, collections: str | None = None, common: Common = DEFAULT) -> None:
    """Add the modalities that a space lacks: each is bound through the one that most known pairs join it to.

    Heads and vectors of the others stay as they are, bit for bit. Ingest the new modality first.
    Examples: `modalign extend` · `modalign extend --space photos --collections sounds`

    Parameters
    ----------
    space
        Name of the space; without it the one published last.
    collections
        Further collections to take in, separated by commas, beside those that the space has.
    """
    params, settings = params_of(None, None, common)
    with session(settings, common):
        from flows.extend_spaces import extend_published

        aligned, decision = extend_published(params, space, names_in(collections))
    made = aligned.space
    bound = ", ".join(f"{name} through {pivot}" for name, pivot in made.bound.items())
    say(
        common,
        {"space": aligned.model_dump(mode="json"), "decision": decision.model_dump(mode="json")},
        f"space {made.name} ({made.space_id}): {', '.join(made.base)}, and bound {bound}; {decision.event}: "
        f"{decision.reason}; next: modalign evaluate",
    )


@app.command
def promote(space: str, /, *, force: Annotated[bool, Parameter(negative="")] = False, common: Common = DEFAULT) -> None:
    """Put a space in force, if the gate lets it pass.

    The gate demands that a paired bootstrap on the held-out groups rules out a loss against the space in force.
    Examples: `modalign promote 3f2a` · `modalign promote 3f2a --force`

    Parameters
    ----------
    space
        Beginning of its id, as `modalign spaces` shows it.
    force
        Put it in force whatever the figures say.
    """
    with writer(common, "promote") as (_, workspace):
        from flows.spaces import promote_by_hand

        decision = promote_by_hand(workspace, space, force=force)
    say(
        common,
        {"decision": decision.model_dump(mode="json")},
        f"{decision.name} {decision.space_id}: {decision.event}; {decision.reason}",
    )


@app.command
def rollback(name: str | None = None, /, *, why: str = "by hand", common: Common = DEFAULT) -> None:
    """Put the former space back in force, as it stood when it was replaced.

    Nothing is lost: `modalign promote` brings the other one back. Examples: `modalign rollback` ·
    `modalign rollback photos --why "misses the new logos"`

    Parameters
    ----------
    name
        Name of the space; needed where several are published.
    why
        For the history.
    """
    with writer(common, "rollback") as (_, workspace):
        from flows.spaces import roll_back_by_hand

        former = roll_back_by_hand(workspace, name, why)
    say(
        common,
        {"space": former.model_dump(mode="json")},
        f"{former.space.name}: {former.space.space_id} is in force again; `modalign update` brings it up to date",
    )


@app.command
def diff(one: str, other: str, /, *, common: Common = DEFAULT) -> None:
    """Compare two spaces: what made them, and how they rank the same held-out queries.

    Example: `modalign diff 3f2a 9c01`

    Parameters
    ----------
    one
        A name (the space in force) or the beginning of an id.
    other
        The same for the space that it is compared with.
    """
    from flows.spaces import difference
    from storage.workspace import Workspace

    settings = settings_of(common)
    found = difference(Workspace(root=settings.workspace, tables_uri=settings.tables_uri), one, other)
    if common.json:
        print_json(found)
        return
    from flows.tables import show_difference

    show_difference(found)
