"""The pseudo-pairs that a fit stands on, by the keys of their items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from storage.spaces import PSEUDO_PAIRS
from tasks.alignment.methods.rounds import Leaning


def named_items(keys: Sequence[str] | npt.NDArray[np.str_], modality: str) -> pa.Table:
    """Key and modality of each row of a side: what `named_leaning` calls it by."""
    return pa.table({"key": pa.array(keys, pa.string()), "modality": pa.repeat(modality, len(keys))})


def named_leaning(leaning: Sequence[Leaning], sides: tuple[pa.Table, pa.Table], bound: str = "") -> pa.Table:
    """A row for each unpaired item and each item that it leans on, as `PSEUDO_PAIRS`; `sides` are by `named_items`.

    `bound` is the modality whose head they refine, empty for the base.
    """
    parts = [PSEUDO_PAIRS.empty_table()]
    for one in leaning:
        count, k = one.near.rows.shape
        own = sides[one.side].take(np.repeat(one.items, k))
        other = sides[1 - one.side].take(one.near.rows.ravel())
        rows = {
            "bound": pa.repeat(bound, count * k),
            "round": pa.repeat(one.round, count * k),
            "view": pa.repeat(one.view, count * k),
            "from_modality": own["modality"],
            "from_key": own["key"],
            "to_modality": other["modality"],
            "to_key": other["key"],
            "weight": one.near.weight.ravel(),
            "certainty": np.repeat(one.near.certainty, k),
        }
        parts.append(pa.table(rows, schema=PSEUDO_PAIRS))
    return pa.concat_tables(parts)
