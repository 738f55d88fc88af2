"""Measure how well questions about media are answered, keep what was fitted, and show the figures as artifacts."""

from __future__ import annotations

from functools import partial
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from config.params import AnswersParams
from flows.context import at_work, cached
from flows.live import tag_run
from flows.summaries import answer_rows, answers_line, answers_summary, key_of
from tasks.answered import collection_asked, encoders_of_collection, state_of
from tasks.refs import AnswersRef
from tasks.score_answers import evaluate_answers, stands


def _name() -> str:
    return f"assess answers of {flow_run.parameters['collection'] or 'what was asked last'}"


@flow(name="assess answers", flow_run_name=_name, persist_result=False)
def assess_answers(
    params: AnswersParams,
    collection: str | None = None,
    refresh_cache: bool = False,  # noqa: FBT001, FBT002 - a form
) -> AnswersRef:
    """Answer the held-out questions of a collection, or all of them by folds, with every baseline beside."""
    with at_work("assess answers") as (_, workspace):
        name = collection_asked(workspace, collection)
        tag_run(name)
        state = state_of(workspace, name, encoders_of_collection(workspace, name))
        found: AnswersRef = cached(
            evaluate_answers,
            workspace,
            name,
            params,
            state,
            valid=partial(stands, workspace),
            refresh=refresh_cache,
        )
        _artifacts(found.metrics)
        get_run_logger().info(answers_line(found.metrics))
        return found


def _artifacts(figures: dict[str, Any]) -> None:
    name = figures["collection"]
    create_table_artifact(answer_rows(figures), key=key_of("answers", name), description=answers_line(figures))
    create_table_artifact(
        [
            {key: round(one, 4) if isinstance(one, float) else one for key, one in row.items()}
            for row in figures["types"]
        ],
        key=key_of("answers-by-type", name),
        description=f"{name}: accuracy by question type",
    )
    answers_summary(figures)
