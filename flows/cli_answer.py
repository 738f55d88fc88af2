"""Commands about questions: ask one about a medium, and measure how well a collection's are answered."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.command import DEFAULT, Common, app, names_in, params_of, print_json, session, settings_of


@app.command
def ask(
    file_or_question: str,
    question: str | None = None,
    /,
    *,
    item: str | None = None,
    answers: str | None = None,
    collection: str | None = None,
    space: str | None = None,
    k: Annotated[int, Parameter(alias="-k")] = 5,
    reader: str | None = None,
    common: Common = DEFAULT,
) -> None:
    """Answer a QUESTION about a media FILE, or with --item about one of a collection.

    From the answered questions of a collection (metadata with the columns file_name, question, answer); without any by
    comparing possible answers with the medium in a space, or the words of its captions.
    Examples: `modalign ask room.jpg "what is on the desk?"` · `modalign ask --item room.jpg "how many chairs?"` ·
    `modalign ask cat.png "is it a dog?" --answers "yes,no"` · `modalign ask cat.png "what is it?" --reader local:blip`

    Parameters
    ----------
    file_or_question
        The media file; with --item the question.
    question
        The question about the file.
    item
        Key of an item, or its path in its collection, in place of a file.
    answers
        Answers to choose from, separated by commas.
    collection
        Whose answered questions are looked at; without it the one of those that was ingested last.
    space
        Name of the space that compares answers and finds captions; without it the one published last.
    k
        Pieces of evidence shown.
    reader
        local:FOLDER of a transformers model that writes the answer, given the evidence.
    """
    from config.errors import UserError

    if (item is None) == (question is None):
        raise UserError(
            "ask takes a file and a question, or --item and a question",
            'for instance: modalign ask room.jpg "what is on the desk?"',
        )
    settings = settings_of(common)
    from storage.workspace import Workspace
    from tasks.answer import Answerer

    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    answerer = Answerer(workspace, space, collection=collection, device=settings.device)
    found = answerer.ask(
        file_or_question if question is None else question,
        file=None if question is None else Path(file_or_question),
        item=item,
        candidates=names_in(answers),
        k=k,
        reader=reader,
    )
    if common.json:
        print_json(asdict(found))
        return
    from flows.tables import show_answered

    show_answered(found)


@app.command
def evaluate_answers(
    collection: str | None = None,
    /,
    *,
    folds: int | None = None,
    refresh: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULT,
) -> None:
    """Measure how well the questions of a COLLECTION are answered, beside every baseline; choose, calibrate and keep.

    What `ask` does afterwards: answer by the values chosen here, tell how sure it is, and say "I don't know" below
    `answers.unsure`. Values are chosen by folds inside the rows that answer.
    Examples: `modalign evaluate-answers` · `modalign evaluate-answers rooms --folds 5 --json`

    Parameters
    ----------
    collection
        Its name; without it the one with answered questions that was ingested last.
    folds
        Measure on all rows by so many folds over groups of media; without it on the held-out split.
    refresh
        Compute everything anew, whatever the cache holds.
    """
    params, settings = params_of(None, None, common, refresh=refresh)
    measure = (
        params.answers if folds is None else type(params.answers)(**{**params.answers.model_dump(), "folds": folds})
    )
    with session(settings, common):
        from flows.assess_answers import assess_answers

        figures = assess_answers(measure, collection, params.refresh_cache).metrics
    if common.json:
        print_json({"metrics": figures})
        return
    from flows.tables import show_answers

    show_answers(figures)
