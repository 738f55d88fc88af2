"""What an update would do, without doing it: for the terminal as a function, for the UI as a flow with an artifact."""

from __future__ import annotations

from prefect import flow

from config.params import UpdateParams
from config.settings import Settings
from flows.context import here
from flows.summaries import plan_artifact
from flows.update import planned, serving_of, spaces_of
from storage.marks import latest
from storage.workspace import Workspace
from tasks.changes import plan_collection
from tasks.refs import Aligned, CollectionPlan, Rate, SpacePlan, Staleness, UpdatePlan


@flow(name="plan", flow_run_name="plan update of {params.label}", persist_result=False)
def plan(params: UpdateParams) -> UpdatePlan:
    """Say what an update would do, and why."""
    settings, _ = here()
    found = plan_update(settings, params)
    plan_artifact(found)
    return found


def plan_update(settings: Settings, params: UpdateParams) -> UpdatePlan:
    """As the flow, without Prefect. Reads the tables and the sources; writes a scan aside and takes it away again."""
    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    plans, skipped = planned(workspace, params)
    spaces = spaces_of(workspace, plans)
    found = tuple(
        plan_collection(workspace, name, one, settings.device, serving_of(spaces, name), params.verify)
        for name, one in plans.items()
    )
    store = workspace.store
    works = [work for one in found for work in one.work]
    base = latest(store, "seconds of an update", Rate)
    known = base is not None and all(work.seconds is not None or not work.vectors for work in works)
    encoding = sum(work.seconds or 0.0 for work in works) / settings.abreast
    seconds = (1 / base.per_second if base is not None else 0.0) + encoding
    return UpdatePlan(
        collections=found,
        spaces=tuple(_space(workspace, space, found) for space in spaces),
        seconds=seconds if known else None,
        skipped=tuple(skipped),
    )


def _space(workspace: Workspace, space: Aligned, found: tuple[CollectionPlan, ...]) -> SpacePlan:
    """Whether the change touches a space, and what already makes it stale or will."""
    own = [one for one in found if one.collection in space.collections]
    touched = any(one.rows_waiting or any(work.vectors for work in one.work) for one in own)
    came, went = sum(one.pairs_added for one in own), sum(one.pairs_removed for one in own)
    stale = latest(workspace.store, f"drift {space.space.table}", Staleness)
    before = stale.changed_pairs if stale is not None else 0.0
    share = min(1.0, before + (came + went) / max(space.space.pairs + came, 1))
    wanted = {(work.modality, work.encoder, work.table) for one in own for work in one.work}
    used = {(one.modality, one.encoder, one.table) for one in space.encoded}
    reasons = [f"encoder {name} of {modality} is new or has changed" for modality, name, _ in sorted(wanted - used)]
    if came or went:
        reasons.append(f"{came:,} training or held-out pairs come and {went:,} go")
    reasons += stale.reasons if stale is not None else ()
    return SpacePlan(
        name=space.space.name,
        space_id=space.space.space_id,
        touched=touched,
        changed_pairs=share,
        reasons=tuple(dict.fromkeys(reasons)),
    )
