"""Commands that take something out of a workspace: the report on a space, and its exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.command import DEFAULT, Common, app, say, settings_of

if TYPE_CHECKING:
    from storage.workspace import Workspace
    from tasks.refs import Aligned


@app.command
def report(
    *,
    space: str | None = None,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    full: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULT,
) -> None:
    """Write the report on a space: one HTML file that needs no network.

    Every `run` and `evaluate` writes it too. Examples: `modalign report` · `modalign report --full -o photos.html`

    Parameters
    ----------
    space
        Name of the space (the one in force) or the beginning of an id; without it the one published last.
    out
        The file; without it one under reports in the workspace.
    full
        Measure the learning curve as well (minutes), and what an index would bring where there is none.
    """
    from flows.terminal import terminal
    from tasks.report import metrics_of, report_of, write_report

    workspace, aligned = _wanted(common, space)
    with terminal(debug=common.debug):
        path = write_report(workspace, report_of(workspace, aligned, metrics_of(aligned), full=full), out)
    say(common, {"report": str(path), "figures": str(path.with_suffix(".json"))}, f"open {path} in a browser")


@app.command
def export(
    what: Literal["atlas", "trec", "pairs", "model"],
    /,
    *,
    out: Annotated[Path, Parameter(alias="-o")],
    space: str | None = None,
    modality: str = "text",
    split: str = "auto",
    depth: Annotated[int, Parameter(validator=Number(gte=1))] = 100,
    common: Common = DEFAULT,
) -> None:
    """Write a space in a form that another tool reads.

    `atlas`: its items as Parquet for embedding-atlas (vector, x, y, neighbors). `trec`: a run and qrels of the held-out
    queries of each direction, into a folder. `pairs`: all pairs as Parquet, with file or text of both ends. `model`:
    its text side as a folder that sentence-transformers loads.
    Examples: `modalign export atlas -o atlas.parquet`, then
    `embedding-atlas atlas.parquet --text text --x x --y y --neighbors neighbors` · `modalign export trec -o trec` ·
    `modalign export model -o my-model`

    Parameters
    ----------
    what
        atlas, trec, pairs or model.
    out
        The file, or for trec and model the folder.
    space
        Name of the space (the one in force) or the beginning of an id; without it the one published last.
    modality
        Of model: whose side.
    split
        Of trec: test, val or heldout; without it the first of these that is there.
    depth
        Of trec: items a query.
    """
    from flows.terminal import terminal

    workspace, aligned = _wanted(common, space)
    told: dict[str, Any]
    with terminal(debug=common.debug):
        if what == "model":
            from tasks.export_model import export_model

            dim = export_model(workspace, aligned, modality, out)
            told, line = {"dim": dim}, f"SentenceTransformer({str(out)!r}) gives vectors of {dim}"
        else:
            from tasks.export import export_atlas, export_pairs, export_trec

            if what == "trec":
                files = export_trec(workspace, aligned, out, split=split, depth=depth)
                told, line = {"files": [str(one) for one in files]}, f"wrote {len(files)} files to {out}"
            else:
                rows = (export_atlas if what == "atlas" else export_pairs)(workspace, aligned, out)
                told, line = {"rows": rows}, f"wrote {rows:,} rows to {out}"
    say(common, {"export": {"what": what, "space": aligned.space.space_id, "out": str(out), **told}}, line)


def _wanted(common: Common, space: str | None) -> tuple[Workspace, Aligned]:
    """The workspace, and the space that is named, or the one published last."""
    from flows.context import in_force
    from flows.spaces import find
    from storage.workspace import Workspace

    settings = settings_of(common)
    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    return workspace, find(workspace.store, space) if space else in_force(None)
