"""A process that encodes, aligns and searches a folder with long recordings, and tells how much memory it took.

`python -m tests.tasks.hours FOLDER ENCODERS QUERIES`, the latter two in JSON, prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from prefect.logging import disable_run_logger

from config.params import AlignParams, GateParams, IndexParams, PipelineParams
from storage.workspace import Workspace
from tasks.fit import fit
from tasks.index import index_space
from tasks.moments import project_moments
from tasks.project import project_items
from tasks.promote import decide, enact
from tasks.refs import Aligned
from tasks.search import Query, Searcher
from tests.tasks.updates import build


def peak() -> int:
    """The most memory that this process has held, in bytes; unlike a resource count, not what its parent held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1_024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def main(folder: str, encoders: str, queries: str) -> None:
    """Encode all, fit a space of each modality of the queries with texts, search it with its query."""
    workspace = Workspace(root=Path(folder).parent / "workspace")
    params = PipelineParams.model_validate(
        {"source": folder, "encode": {"encoders": json.loads(encoders), "parts": True}}
    )
    told: dict[str, Any] = {}
    with disable_run_logger():
        done = build(workspace, params)
        told["encoded"] = peak()
        collections = (done.collection,)
        align = AlignParams(method="cca", dim=4, pca=8, folds=2, hubness_k=3)
        for modality, query in json.loads(queries).items():
            encoded = tuple(one for one in done.encoded if one.modality in (modality, "text"))
            space = fit.fn(workspace, modality, collections, done.groups.digest, encoded, align)
            project_items.fn(workspace, space, collections, encoded)
            index = index_space.fn(workspace, space, IndexParams())
            moments = project_moments.fn(workspace, space, collections, encoded, IndexParams())
            aligned = Aligned(space=space, index=index, collections=collections, encoded=encoded, groups=done.groups)
            enact(workspace.store, aligned, decide(workspace.store, aligned, GateParams(policy="always")))
            answer = Searcher(workspace, modality, device="cpu").search(Query(file=Path(query)), target=modality, k=8)
            told[modality] = {"parts": moments.rows, "hits": [[hit.uri, hit.start] for hit in answer.hits]}
    print(json.dumps(told | {"peak": peak()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
