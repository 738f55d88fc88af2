"""Captions: of single files and items, with their evidence, and of whole collections."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from flows.command import DEFAULT, Common, app, names_in, print_json, session, settings_of

if TYPE_CHECKING:
    from config.settings import Settings
    from tasks.refs import Captioned

_FLAG = Parameter(negative="")


@app.command
def caption(
    *files: Path,
    item: str | None = None,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    collection: str | None = None,
    space: str | None = None,
    k: Annotated[int, Parameter(alias="-k", validator=Number(gte=1, lte=100))] = 5,
    generator: str | None = None,
    dry_run: Annotated[bool, _FLAG] = False,
    undo: Annotated[bool, _FLAG] = False,
    refresh: Annotated[bool, _FLAG] = False,
    common: Common = DEFAULT,
) -> None:
    """Caption files, an item, or all items without a text, by the captions of those most like them.

    Of the captions of the nearest training items that one is taken on which the others agree, and which fits in the
    joint space; the evidence is shown. A clip takes them from pictures where few clips have any. With --all they are
    kept: full text finds the items by them, marked ≈. They never count as known pairs, and train no space but with
    --set align.generated=true.
    Examples: `modalign caption dog.jpg cat.jpg` · `modalign caption clip.mp4 -k 3 --json` ·
    `modalign caption --all --dry-run` · `modalign caption --all --collection photos` ·
    `modalign caption dog.jpg --generator local:models/blip` · `modalign caption --undo --collection photos`

    Parameters
    ----------
    files
        Media of a modality of the space that is not text.
    item
        Key of an item of the space.
    every
        All items without a text, of all collections of the space or of --collection.
    collection
        Names separated by commas, for --all and --undo.
    space
        Name of the space; without it the one published last.
    k
        Captions shown as evidence.
    generator
        local:FOLDER, a transformers model on disk that writes from the evidence, and from the picture if it sees.
    dry_run
        With --all: say how many items would be captioned, and change nothing.
    undo
        Delete the captions that --all has kept.
    refresh
        With --all: caption again what is captioned already.
    """
    from config.errors import UserError

    if sum((bool(files), item is not None, every, undo)) != 1:
        raise UserError("caption takes files, --item, --all or --undo, one of them", "modalign caption dog.jpg")
    settings = settings_of(common)
    if every or undo:
        done = _whole(settings, common, collection, space, generator, dry_run=dry_run, undo=undo, refresh=refresh)
        if common.json:
            print_json({"captioned": done.model_dump(mode="json")})
        else:
            _show_whole(done, dry_run=dry_run)
        return
    from flows.captions import show_caption
    from storage.workspace import Workspace
    from tasks.caption import Captioner, reader_of

    workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
    captioner = Captioner(workspace, space, device=settings.device)
    items = () if item is None else (item,)
    made = captioner.caption_many(files=files, items=items, k=k, generate=reader_of(generator, device=settings.device))
    if common.json:
        print_json({"captions": [asdict(one) for one in made]})
        return
    for one in made:
        show_caption(one)


def _whole(
    settings: Settings,
    common: Common,
    collection: str | None,
    space: str | None,
    generator: str | None,
    *,
    dry_run: bool,
    undo: bool,
    refresh: bool,
) -> Captioned:
    from config.params import CaptionParams

    params = CaptionParams(space=space, collections=names_in(collection), generator=generator, refresh=refresh)
    with session(settings, common):
        from flows.caption_collection import caption_collection, forget_captions

        return forget_captions(params) if undo else caption_collection(params, dry_run)


def _show_whole(done: Captioned, *, dry_run: bool) -> None:
    if done.dropped:
        print("; ".join(f"{name}: {count:,} generated captions deleted" for name, count in done.dropped.items()))
        return
    made = {name: sum(one.captioned for one in done.reports if one.collection == name) for name in done.pending}
    for name, waiting in done.pending.items():
        what = f"{waiting:,} items without a text would be captioned" if dry_run else f"{made[name]:,} items captioned"
        print(f"{name}: {what}")
    for one in done.reports:
        for item, text, score in one.examples[:3]:
            print(f"  {item}: {text} ({score:.2f})")
