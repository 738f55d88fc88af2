"""What to type to get a space and its figures again. No Prefect."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from config.loading import overrides_of
from config.params import AlignParams, AssessParams, PipelineParams
from storage import catalog
from storage.tables import Store
from tasks.refs import Aligned


def commands(store: Store, aligned: Aligned, config: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    """What to type to get this space and these figures again."""
    plain = PipelineParams()
    recorded = {row["name"]: row for row in catalog.collections(store)}
    lines = []
    for name in aligned.collections:
        row = recorded.get(name)
        if row is not None:
            params = PipelineParams.model_validate_json(row["params"])
            parts = {part: getattr(params, part) for part in ("columns", "preprocess", "encode")}
            own = overrides_of(plain.model_copy(update=parts), plain)
            lines.append(_command("ingest", row["uri"], "--collection", name, *_sets(own)))
    align = AlignParams.model_validate(config["params"])
    encode = {
        name: tuple(one["name"] for one in many if "#" not in one["name"]) for name, many in config["encoders"].items()
    }
    fitted = plain.model_copy(update={"align": align, "encode": plain.encode.model_copy(update={"encoders": encode})})
    names = ",".join(aligned.collections)
    lines.append(
        _command("align", "--collections", names, "--name", metrics["name"], *_sets(overrides_of(fitted, plain)))
    )
    assess = AssessParams(draws=metrics["draws"], seed=metrics["seed"], confidence=metrics["confidence"])
    measured = overrides_of(plain.model_copy(update={"assess": assess}), plain)
    lines.append(_command("evaluate", "--space", metrics["name"], "--split", metrics["split"], *_sets(measured)))
    return lines


def _sets(overrides: Sequence[str]) -> list[str]:
    return [word for one in overrides for word in ("--set", one)]


def _command(*words: str) -> str:
    return shlex.join(("modalign", *words))
