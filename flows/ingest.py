"""From a source to items and embeddings: scan, preprocess, group, encode what is pending."""

from __future__ import annotations

import time

from prefect import flow

from config.params import PipelineParams
from flows.context import here
from flows.summaries import ingest_summary
from tasks.encode import check_encoders, encode_shard, plan_encoding
from tasks.preprocess import check_failures, group_items, preprocess_shard, scan_source
from tasks.refs import EncodeReport, Ingested


@flow(name="ingest", flow_run_name="ingest {params.source}", persist_result=False)
def ingest(params: PipelineParams) -> Ingested:
    """Bring the tables to what the source holds now, and encode every content that has no vector yet."""
    start = time.perf_counter()
    settings, workspace = here()
    refresh = params.refresh_cache
    read = params.preprocess
    check_encoders(params.encode.encoders, settings.device)
    scan = scan_source(workspace, params.source, params.collection, params.columns, read.shard_rows)
    preprocess = preprocess_shard.with_options(refresh_cache=refresh)
    for shard in scan.shards:
        preprocess(workspace, scan.collection, scan.root, shard, read)
    groups = group_items(workspace, scan.collection, read)
    check_failures(workspace, scan.collection, read.failure_budget)
    encoded, stages = [], []
    for modality, encoders in params.encode.encoders.items():
        for encoder in encoders:
            plan = plan_encoding(
                workspace, scan.collection, modality, encoder, settings.device, params.encode.shard_items
            )
            encoded.append(plan.source)
            for shard in plan.shards:
                # a cached reference may outlive its data: what is pending is encoded whatever the cache says
                encode = encode_shard.with_options(refresh_cache=refresh or shard.pending > 0)
                report: EncodeReport = encode(
                    workspace, scan.collection, plan.source, shard, scan.root, settings.device, settings.threads, read
                )
                if shard.pending:
                    stages.append(report)
    quarantined = check_failures(workspace, scan.collection, read.failure_budget)
    done = Ingested(
        collection=scan.collection,
        content=groups.digest,
        encoded=tuple(encoded),
        rows=scan.rows,
        groups=groups,
        quarantined=quarantined,
        stages=tuple(stages),
        seconds=time.perf_counter() - start,
    )
    ingest_summary(done)
    return done
