"""Commands that advise: which encoders and method to take, whether more pairs would help, what to label next."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.command import DEFAULT, Common, app, names_in, params_of, print_json, say, settings_of

_ONE, _TWO = Parameter(validator=Number(gte=1)), Parameter(validator=Number(gte=2))


@app.command
def compare(
    *,
    collections: str | None = None,
    methods: str = "cca,ridge,procrustes",
    folds: Annotated[int, _TWO] = 5,
    pairs: Annotated[int, _TWO] = 5_000,
    seconds: float = 300.0,
    common: Common = DEFAULT,
) -> None:
    """Compare encoders and methods on your own pairs, before you settle on one of them.

    All encoders with vectors in the tables, each of one modality with each of the other and all of a modality joined,
    or those that --profile or --set name. Measured by cross-validation over groups inside the training split: the
    evaluation split stays unseen. Beside the held-out rsum stands how far the two encoders agree on nearest neighbours
    before any training (mutual k-NN, Huh et al. 2024).
    Examples: `modalign compare` · `modalign compare --methods cca,ridge --json` ·
    `modalign compare --set 'encode.encoders={"image": ["local:vit"], "text": ["builtin:minilm", "builtin:mpnet"]}'`

    Parameters
    ----------
    collections
        Names separated by commas; without them the one that was ingested last.
    methods
        Names separated by commas: cca, soft, cotraining, heads, ridge, procrustes, asif, auto.
    folds
        Parts of the training groups, each held out once.
    pairs
        Largest number of training pairs to look at; of more, so many are drawn by group.
    seconds
        Time after which no further candidate is begun; all encoders come first under the first method.
    """  # noqa: D405, D411, D416 - an option is named as a section of docstrings
    params, settings = params_of(None, None, common)
    from flows.terminal import terminal
    from tasks.compare import check_methods, compare_encoders
    from tasks.ingested import collections_of, found_encoders, named_encoders

    check_methods(names_in(methods))
    workspace = _workspace(settings)
    chosen = collections_of(workspace, names_in(collections))
    may_lack = params.preprocess.failure_budget
    notes: tuple[str, ...] = ()
    if common.profile is not None or any(text.startswith("encode.") for text in common.set):
        encoded = named_encoders(workspace, chosen, params.encode.encoders, settings.device, may_lack=may_lack)
    else:
        encoded, notes = found_encoders(workspace, chosen, settings.device, may_lack=may_lack)
    with terminal(debug=common.debug):
        found = compare_encoders(
            workspace,
            chosen,
            encoded,
            params.align,
            methods=names_in(methods),
            folds=folds,
            most=pairs,
            seconds=seconds,
        )
    found |= {"notes": list(notes)}
    if common.json:
        print_json({"compare": found})
        return
    from flows.guidance import show_comparison

    show_comparison(found)


@app.command
def curve(
    *,
    collections: str | None = None,
    more: Annotated[int, _ONE] = 100,
    seeds: Annotated[int, _ONE] = 3,
    folds: Annotated[int, _TWO] = 3,
    pairs: Annotated[int, _TWO] = 5_000,
    seconds: float = 300.0,
    common: Common = DEFAULT,
) -> None:
    """Show how the ranking grows with the number of pairs, and what labelling more of them would bring.

    Heads are fitted on nested random subsets of the training pairs and measured on held-out groups inside the training
    split: the evaluation split stays unseen. A saturating power law, rsum = a − b·n^−c, is fitted by least squares;
    where it does not hold or the figures do not determine it, no forecast is given.
    Examples: `modalign curve` · `modalign curve --more 500 --json` · `modalign curve --set align.method=ridge`

    Parameters
    ----------
    collections
        Names separated by commas; without them the one that was ingested last.
    more
        Number of further pairs to forecast.
    seeds
        Random subsets at each size.
    folds
        Parts of the training groups, each held out once.
    pairs
        Largest number of training pairs to look at; of more, so many are drawn by group.
    seconds
        Time after which no further seed is begun.
    """
    params, settings = params_of(None, None, common)
    from flows.terminal import terminal
    from tasks.compare import learning_curve
    from tasks.ingested import collections_of, named_encoders
    from tasks.report import keep_curve

    workspace = _workspace(settings)
    chosen = collections_of(workspace, names_in(collections))
    may_lack = params.preprocess.failure_budget
    encoded = named_encoders(workspace, chosen, params.encode.encoders, settings.device, may_lack=may_lack)
    with terminal(debug=common.debug):
        found = learning_curve(
            workspace, chosen, encoded, params.align, more=more, seeds=seeds, folds=folds, most=pairs, seconds=seconds
        )
    keep_curve(workspace, found)
    if common.json:
        print_json({"curve": found})
        return
    from flows.guidance import show_curve

    show_curve(found)


@app.command
def suggest(
    *,
    n: Annotated[int, Parameter(alias="-n", validator=Number(gte=1))] = 50,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    collection: str | None = None,
    modality: str | None = None,
    space: str | None = None,
    common: Common = DEFAULT,
) -> None:
    """Write a table of the items without a partner that would teach most, for you to fill in.

    Chosen greedily (facility location): items that stand for many and that nothing paired or chosen stands for yet.
    The table has each item, the present best guesses, and an empty cell; filled in, it is a source: as metadata.csv in
    a sub-folder of the collection, `modalign update` reads it.
    Examples: `modalign suggest` · `modalign suggest -n 200 --modality image` · `modalign suggest -o photos/label.csv`

    Parameters
    ----------
    n
        Number of items.
    output
        The table; without it to-label/metadata.csv in the collection's folder, or label.csv beside its table.
    collection
        Name of the collection; needed where the space holds several.
    modality
        Items of this one alone; without it of both.
    space
        Name of the space that guesses; without it the one published last.
    """
    from config.errors import UserError
    from flows.context import in_force
    from tasks.suggest import place_for, suggest_items, write_table

    workspace = _workspace(settings_of(common))
    aligned = in_force(space)
    if (collection is None and len(aligned.collections) != 1) or collection not in (None, *aligned.collections):
        raise UserError(
            f"the space {aligned.space.name} is fitted on {', '.join(aligned.collections)}",
            "name one with --collection",
        )
    name = collection or aligned.collections[0]
    place = place_for(workspace, name, output)
    rows = suggest_items(workspace, aligned, name, n, modality)
    write_table(place, rows)
    told = {"written": str(place.path), "next": place.next_step(name), "items": [asdict(row) for row in rows]}
    say(common, {"suggest": told}, f"wrote {len(rows):,} items to {place.path}; {told['next']}")


def _workspace(settings: Any) -> Any:
    from storage.workspace import Workspace

    return Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
