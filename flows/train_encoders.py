"""Train an encoder on the collections' own training split, encode its modality alone with it, and let the gate judge.

What a collection is encoded with from now on changes only with a promotion. An encoder whose space was refused stays as
long as that refusal is the last word on the name: `modalign promote` takes it up, `gc` takes it away later.
"""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from config.errors import UserError
from config.params import PipelineParams, UpdateParams
from config.settings import Settings
from flows.align_collections import ingested_before
from flows.align_spaces import align_spaces
from flows.assess import assess
from flows.context import at_work, cached
from flows.ingest import encode_pending
from flows.live import live, tag_run
from flows.runners import workers_of
from flows.summaries import decision_artifact, trained_artifact
from flows.update import planned
from storage import catalog
from storage.workspace import Workspace
from tasks.align import load_training
from tasks.encode import check_encoders
from tasks.encoders.automodel_names import encoder_folder
from tasks.ingested import collections_of, named_encoders, refs_of
from tasks.name_classes import name_classes, to_name
from tasks.promote import promote_space
from tasks.refs import EncoderRef, TrainedOutcome, TrainedRef
from tasks.train_encoder import TEXT, distinct_texts, finetune_encoder, is_lsa, train_lsa, tunable


def _name() -> str:
    return f"finetune {flow_run.parameters['encoder'] or 'the first encoder of texts'}"


@flow(name="finetune", flow_run_name=_name, persist_result=False)
def finetune(update: UpdateParams, encoder: str | None = None, space: str | None = None) -> TrainedOutcome:
    """Fine-tune an encoder of texts on the known training pairs; without a name the first of the collections' own.

    Collections and params are named as those of an update; `space` is the name under which the gate judges.
    """
    with at_work("finetune") as (settings, workspace), live("finetune"):
        names, params = recorded(workspace, update)
        tag_run("finetune", *names)
        chosen = tuned_encoder(params, encoder)
        tunable(chosen)
        encoded = named_encoders(
            workspace, names, params.encode.encoders, settings.device, may_lack=params.preprocess.failure_budget
        )
        (tuned,) = [one for one in encoded if one.encoder == chosen]
        trained: TrainedRef = cached(
            finetune_encoder, workspace, names, _content(workspace, names, encoded, params), encoded, tuned,
            params.align, params.finetune, settings.threads, valid=_stands, refresh=params.refresh_cache,
        )  # fmt: skip
        others = params.encode.encoders[TEXT]
        texts = tuple(trained.encoder or one if one == chosen else one for one in others)
        return _taken_up(settings, workspace, params, names, trained, texts, space)


@flow(name="train lsa", flow_run_name="train lsa", persist_result=False)
def lsa(update: UpdateParams, alone: bool = False, space: str | None = None) -> TrainedOutcome:  # noqa: FBT001, FBT002
    """Make an encoder of the training texts by latent semantic analysis, to stand beside the others, or `alone`.

    It takes the place of a former one of its kind.
    """
    with at_work("train lsa") as (settings, workspace), live("lsa"):
        names, params = recorded(workspace, update)
        tag_run("lsa", *names)
        encoded = refs_of(params.encode.encoders, settings.device)
        trained: TrainedRef = cached(
            train_lsa, workspace, names, _content(workspace, names, encoded, params), params.lsa,
            valid=_stands, refresh=params.refresh_cache,
        )  # fmt: skip
        assert trained.encoder is not None
        texts = () if alone else params.encode.encoders.get(TEXT, ())
        others = tuple(one for one in texts if not is_lsa(one))
        return _taken_up(settings, workspace, params, names, trained, (*others, trained.encoder), space)


def plan_finetune(settings: Settings, update: UpdateParams, encoder: str | None = None) -> dict[str, str | int | float]:
    """What `finetune` would do, without doing it."""
    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    names, params = recorded(workspace, update)
    chosen = tuned_encoder(params, encoder)
    tunable(chosen)
    encoded = named_encoders(
        workspace, names, params.encode.encoders, settings.device, may_lack=params.preprocess.failure_budget
    )
    how = params.finetune
    return {
        "encoder": chosen,
        "last blocks that learn": how.blocks,
        "collections": ", ".join(names),
        "training pairs": min(len(load_training(workspace.store, names, encoded).pairs), how.pairs),
        "share of their groups held out to judge": how.held,
        "steps at most": how.steps,
        "texts to encode anew": len(distinct_texts(workspace.store, names)),
        "written to": str(workspace.encoders),
    }


def recorded(workspace: Workspace, update: UpdateParams) -> tuple[tuple[str, ...], PipelineParams]:
    """The collections that are meant (without names the one ingested last), and the params of the first of them."""
    names = collections_of(workspace, update.collections)
    plans, skipped = planned(workspace, update.model_copy(update={"collections": names}))
    if skipped:
        raise UserError(skipped[0], "name another collection")
    return names, plans[names[0]]


def tuned_encoder(params: PipelineParams, wanted: str | None) -> str:
    """The encoder of texts to fine-tune. Raises `UserError` for one that the collections are not encoded with."""
    known = params.encode.encoders.get(TEXT, ())
    if wanted is None and known:
        return known[0]
    if wanted not in known:
        raise UserError(f"the texts are not encoded with {wanted}", f"name one of {', '.join(known) or 'none'}")
    return wanted


def _content(
    workspace: Workspace, names: tuple[str, ...], encoded: tuple[EncoderRef, ...], params: PipelineParams
) -> str:
    """Identity of the items, groups and pairs of the collections."""
    return "+".join(ingested_before(workspace, name, encoded, params).content for name in names)


def _stands(trained: TrainedRef) -> bool:
    """Whether the folder of an encoder is still there."""
    return trained.encoder is None or encoder_folder(trained.encoder).is_dir()


def _taken_up(
    settings: Settings,
    workspace: Workspace,
    params: PipelineParams,
    names: tuple[str, ...],
    trained: TrainedRef,
    texts: tuple[str, ...],
    space: str | None,
) -> TrainedOutcome:
    """Encode the texts with the new encoder alone, fit a space with `texts` as encoders of texts, and judge it."""
    if trained.encoder is None:
        trained_artifact(names, trained, None)
        return TrainedOutcome(trained=trained)
    encoders = params.encode.encoders | {TEXT: texts}
    check_encoders(encoders, settings.device)
    roots = {row["name"]: row["root"] for row in catalog.collections(workspace.store)}
    with workers_of(settings) as workers:
        stages = [
            stage
            for name in names
            for stage in encode_pending(
                settings, workers, workspace, params, name, roots[name], TEXT, (trained.encoder,), few=True
            )[1]
        ]
        refs = refs_of(encoders, settings.device)
        for source, classes in to_name(refs):
            name_classes(workspace, source, classes, settings.device, workers.threads)
    ingested = tuple(ingested_before(workspace, name, refs, params) for name in names)
    aligned = align_spaces(params, ingested, space or "+".join(names))
    score = assess(params.assess, aligned, params.refresh_cache)
    decision = promote_space(workspace, aligned, params.gate, score.metrics["rsum"])
    decision_artifact(decision)
    if decision.event != "refused":
        for name in names:
            _record(workspace, name, encoders)
    trained_artifact(names, trained, decision)
    get_run_logger().info("%s: %s; %s", trained.encoder, decision.event, decision.reason)
    return TrainedOutcome(trained=trained, stages=tuple(stages), aligned=aligned, decision=decision)


def _record(workspace: Workspace, name: str, encoders: dict[str, tuple[str, ...]]) -> None:
    """Let later updates of a collection encode with these."""
    row = next(row for row in catalog.collections(workspace.store) if row["name"] == name)
    params = PipelineParams.model_validate_json(row["params"])
    params = params.model_copy(update={"encode": params.encode.model_copy(update={"encoders": encoders})})
    text = params.model_dump_json(exclude={"refresh_cache"}, exclude_unset=True)
    catalog.record_collection(workspace.store, name, row["uri"], row["root"], text)
