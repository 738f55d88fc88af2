"""From a source to items and embeddings: scan, preprocess, group, encode what is pending."""

from __future__ import annotations

import time
from functools import partial

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from config.params import PipelineParams
from config.settings import Settings
from flows.context import at_work
from flows.live import live, tag_run
from flows.runners import Workers, workers_of
from flows.summaries import ingest_line, ingest_summary, quarantine_artifact, told_of
from flows.work import tell, usage
from storage.workspace import Workspace
from tasks.changes import both
from tasks.encode import check_encoders, encode_shard, encoders_of, plan_encoding
from tasks.name_classes import name_classes, to_name
from tasks.preprocess import check_failures, gathered, group_items, preprocess_shard, scan_source
from tasks.refs import EncodeReport, EncoderRef, Ingested, PreprocessReport


def encode_pending(
    settings: Settings,
    workers: Workers,
    workspace: Workspace,
    params: PipelineParams,
    collection: str,
    root: str,
    modality: str,
    encoders: tuple[str, ...],
    *,
    few: bool,
) -> tuple[tuple[EncoderRef, ...], list[EncodeReport]]:
    """Encode what a collection still lacks under encoders of one modality, which read and decode it once for them all.

    `few` starts no task where nothing is to be done.
    """
    anew, items, parts = params.refresh_cache, params.encode.shard_items, params.encode.parts
    plan = plan_encoding(workspace, collection, modality, encoders, settings.device, items, anew, parts)
    calls = []
    for shard in gathered(plan.shards, items) if few else plan.shards:
        # a cached reference may outlive its data: what is pending is encoded whatever the cache says
        encode = encode_shard.with_options(refresh_cache=anew or shard.pending > 0)
        args = (workspace, collection, plan.sources, shard, root, settings.device, workers.threads)
        calls.append((shard.pending > 0, partial(encode, *args, params.preprocess, parts)))
    return plan.sources, [one for reports in workers.run(calls) for one in reports]


def _name() -> str:
    params: PipelineParams = flow_run.parameters["params"]
    return f"ingest {params.collection or params.source}"


@flow(name="ingest", flow_run_name=_name, persist_result=False)
def ingest(
    params: PipelineParams,
    serving: dict[str, tuple[str, ...]] | None = None,
    verify: bool = False,  # noqa: FBT001, FBT002 - a flow's parameters are its form
    pending_only: bool = False,  # noqa: FBT001, FBT002
) -> Ingested:
    """Bring the tables to what the source holds now, and encode every content that has no vector yet.

    `serving` names the encoders of spaces in force, by modality: they are kept up beside those of the params. `verify`
    reads every file again, whatever its size and time say. `pending_only` starts no task where nothing is to be done.
    """
    start = time.perf_counter()
    with at_work(f"ingest {params.source}") as (settings, workspace), live("ingest"), workers_of(settings) as workers:
        anew, read, wanted = params.refresh_cache, params.preprocess, encoders_of(params)
        check_encoders(wanted, settings.device)
        scan = scan_source(
            workspace,
            params.source,
            params.collection,
            params.columns,
            read,
            params.model_dump_json(exclude={"refresh_cache"}, exclude_unset=True),
        )
        tag_run(scan.collection)
        again = anew or verify
        calls = []
        for shard in gathered(scan.shards, read.shard_rows) if pending_only and not again else scan.shards:
            due = again or shard.pending > 0
            preprocess = preprocess_shard.with_options(refresh_cache=due)
            calls.append((due, partial(preprocess, workspace, scan.collection, scan.root, shard, read, again)))
        changes: list[PreprocessReport] = workers.run(calls)
        groups = group_items(workspace, scan.collection, read, anew)
        check_failures(workspace, scan.collection, read.failure_budget)
        encoded: list[EncoderRef] = []
        stages: list[EncodeReport] = []
        for modality, encoders in both(wanted, serving or {}).items():
            sources, done_now = encode_pending(
                settings, workers, workspace, params, scan.collection, scan.root, modality, encoders, few=pending_only
            )
            encoded += sources
            stages += done_now
        for source, classes in to_name(encoded):
            name_classes(workspace, source, classes, settings.device, workers.threads)
        quarantined = check_failures(workspace, scan.collection, read.failure_budget)
        done = Ingested(
            collection=scan.collection,
            content=groups.digest,
            encoded=tuple(one for one in encoded if one.encoder in wanted.get(one.modality, ())),
            rows=scan.rows,
            groups=groups,
            quarantined=quarantined,
            stages=tuple(stages),
            written=sum(one.written for one in changes),
            removed=sum(one.removed for one in changes),
            seconds=time.perf_counter() - start,
            usage=usage(),
        )
        tell(ingested=told_of(done))
        ingest_summary(done)
        quarantine_artifact(workspace, done.collection, quarantined)
        get_run_logger().info("%s; quarantined %s", ingest_line(done), f"{quarantined:,}")
        return done
