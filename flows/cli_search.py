"""`modalign search`: the query core on the command line, for one query or a file of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from config.errors import UserError
from flows.command import DEFAULT, Common, app, print_json, settings_of, swift

if TYPE_CHECKING:
    from tasks.search import Answer, Evidence, Query, Searcher

_TOGETHER = 64  # queries of a file that are read and answered at a time
_KINDS = ("text", "file", "item")


@app.command
def search(
    text: str | None = None,
    /,
    *,
    file: Path | None = None,
    item: str | None = None,
    queries: Path | None = None,
    to: str | None = None,
    k: Annotated[int, Parameter(alias="-k")] = 10,
    offset: int = 0,
    where: Annotated[list[str] | None, Parameter(negative="")] = None,
    mode: Literal["auto", "vector", "text", "hybrid"] = "auto",
    text_weight: float = 0.5,
    fold: Annotated[bool, Parameter(negative="")] = False,
    hubness: bool = True,
    why: Annotated[bool, Parameter(negative="")] = False,
    space: str | None = None,
    common: Common = DEFAULT,
) -> None:
    """Search a space with a TEXT, a file, an item, or a text beside one of the others.

    Examples: `modalign search "something to eat" --to image -k 5` · `modalign search --file dog.png --to text` ·
    `modalign search 猫` · `modalign search "in the snow" --file dog.png` ·
    `modalign search dog --where "year>=2020" --where "place in Oslo,Bergen"` ·
    `modalign search --queries questions.txt --json`

    Parameters
    ----------
    text
        What to search for, in words.
    file
        A media file to search with.
    item
        Key of an item to search with; `--json` shows the keys of hits.
    queries
        A file of queries: one text a line, or CSV or JSON lines with text, file (beside it) or item.
    to
        Modality of the hits: image, text, …; without it the first one that is not the query's own, or, for a text
        beside a medium, the medium's.
    k
        Number of hits.
    offset
        Hits to pass over: --offset 10 is the second page of ten.
    where
        A condition on collection, split, group, uri, text or an attribute, as year>=2020 (repeatable).
    mode
        vector, text (full text), hybrid (both, fused), or auto.
    text_weight
        Of the text beside a medium, 0 to 1.
    fold
        List near-duplicates under the first of them.
    hubness
        Correct for items that are near to everything.
    why
        Show the known pairs of the training set that speak for each hit.
    space
        Name of the space; without it the one published last.
    """
    with swift():
        from storage.workspace import Workspace
        from tasks.conditions import parse
        from tasks.search import Query, Searcher

        how: dict[str, Any] = {"target": to, "k": k, "offset": offset, "mode": mode, "fold": fold, "hubness": hubness}
        how["where"] = parse(where or ())
        if queries is None:
            asked = Query(text=text, file=file, item=item, text_weight=text_weight)
            some: Iterator[Query] = iter(())
        else:
            if (text, file, item) != (None, None, None):
                raise UserError("--queries stands for all queries", "leave out the text, --file and --item")
            some = _queries(queries, text_weight)
        settings = settings_of(common)
        workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
        searcher = Searcher(workspace, space, device=settings.device)
        from flows.found import show_answer, show_briefly

        if queries is None:
            answer = searcher.search(asked, **how)
            told = _evidence(searcher, asked, answer) if why else {}
            if common.json:
                print_json(_object(answer, told))
            else:
                show_answer(answer, told)
            return
        while part := list(islice(some, _TOGETHER)):
            for one, answer in zip(part, searcher.search_many(part, **how), strict=True):
                told = _evidence(searcher, one, answer) if why else {}
                if common.json:
                    print(json.dumps(_object(answer, told), ensure_ascii=False, default=str))
                else:
                    show_briefly(answer)


def _evidence(searcher: Searcher, query: Query, answer: Answer) -> dict[str, list[Evidence]]:
    """The evidence of each hit; none where words alone have found it."""
    from tasks.search import Query

    if answer.mode == "text":
        return {}
    vector, modality = searcher.embed(query)  # once for all hits
    asked = Query(vector=vector, modality=modality)
    return {hit.key: searcher.why(asked, hit.key) for hit in answer.hits}


def _object(answer: Answer, told: Mapping[str, Sequence[Evidence]]) -> dict[str, Any]:
    """An answer as JSON; with the evidence of each hit where it was asked for."""
    out = asdict(answer)
    for hit in out["hits"]:
        if hit["key"] in told:
            hit["why"] = [asdict(one) for one in told[hit["key"]]]
    return out


def _queries(path: Path, text_weight: float) -> Iterator[Query]:
    """The queries of a file; a bad one is named by its line."""
    from tasks.search import Query

    for number, row in _rows(path):
        given = {name: str(row[name]) for name in _KINDS if row.get(name) not in (None, "")}
        place = f"{path.name}:{number}"
        file = path.parent / given.pop("file") if "file" in given else None
        if file is not None and not file.is_file():
            raise UserError(f"{place}: there is no file {file}", "files are named from the folder of the queries")
        try:
            yield Query(given.get("text"), file, given.get("item"), text_weight=text_weight)
        except UserError as error:
            raise UserError(f"{place}: {error.message}", error.mend) from None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and rows of a file of queries; a line of text is a row with `text`. Empty lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(lines)
                if not set(reader.fieldnames or ()) & set(_KINDS):
                    raise UserError(f"{path.name} has no column text, file or item", "name one so, in its first line")
                for row in reader:
                    yield reader.line_num, row
                return
            is_json = path.suffix.lower() in (".jsonl", ".ndjson")
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _row(line, f"{path.name}:{number}") if is_json else {"text": line.strip()}
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})", "check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path.name} cannot be read ({error})", "write it as UTF-8") from None


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UserError(f"{place}: this is no JSON object", 'write one a line, as {"text": "a dog"}')
    return row
