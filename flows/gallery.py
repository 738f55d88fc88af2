"""The gallery of a run, for Prefect's UI: what the space finds, to see rather than to read."""

from __future__ import annotations

import base64
from typing import cast

from prefect.artifacts import Artifact, create_image_artifact

from config.params import PreprocessParams
from flows.summaries import key_of
from storage.workspace import Workspace
from tasks.examples import held_out_examples, picture_of, roots_of
from tasks.media.registry import Limits
from tasks.refs import Aligned
from tasks.reports.sheet import Row, contact_sheet


def gallery_artifact(workspace: Workspace, aligned: Aligned, split: str) -> None:
    """An image artifact: a few held-out texts and the pictures found for them, kept as PNG under reports.

    One that shows what the last one shows is not made again.
    """
    store, name = workspace.store, aligned.space.name
    examples = held_out_examples(store, aligned, split)
    if not examples:
        return
    roots, read = roots_of(store), PreprocessParams()
    limits = Limits(max_pixels=read.max_pixels, max_bytes=read.max_bytes)
    sheet = contact_sheet(
        [
            Row(
                one.text,
                [picture_of(roots, found, limits) for found in one.found],
                [found.known for found in one.found],
            )
            for one in examples
        ]
    )
    path = workspace.reports / f"{key_of('gallery', name)}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sheet)
    url = "data:image/png;base64," + base64.b64encode(sheet).decode("ascii")
    last = cast("Artifact | None", Artifact.get(key_of("gallery", name)))
    if last is not None and last.data == url:
        return
    texts = "; ".join(f"{number}. {one.text}" for number, one in enumerate(examples, 1))
    create_image_artifact(
        url,
        key=key_of("gallery", name),
        description=f"{name}: held-out texts and the nearest pictures (framed: the text's own). {texts}",
    )
