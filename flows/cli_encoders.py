"""Commands that train an encoder on the user's own data: fine-tune one of texts, or make one of the texts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.command import DEFAULT, Common, app, names_in, print_json, say, session, settings_of

if TYPE_CHECKING:
    from config.params import UpdateParams
    from tasks.refs import TrainedOutcome


@app.command
def finetune(
    *,
    encoder: str | None = None,
    blocks: int | None = None,
    collections: str | None = None,
    name: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    common: Common = DEFAULT,
) -> None:
    """Fine-tune the last blocks of a text encoder on your own training pairs, as the last stage.

    The other encoders stay as they are. Groups held out of the training pairs say when to stop, and whether it was
    worth it; then the texts alone are encoded anew, a space is fitted, and the gate decides whether it takes over. Only
    if it does, later updates use the new encoder.
    Examples: `modalign finetune --dry-run` · `modalign finetune` ·
    `modalign finetune --encoder builtin:mpnet --blocks 1 --set finetune.steps=200`

    Parameters
    ----------
    encoder
        One of the encoders of texts that the collections are encoded with; without it the first of them.
    blocks
        Last blocks that learn (finetune.blocks).
    collections
        Names separated by commas; without them the one that was ingested last.
    name
        Name of the space; without it the collections' names joined by `+`.
    dry_run
        Say what would be done, and change nothing.
    """
    more = () if blocks is None else (f"finetune.blocks={blocks}",)
    settings, update = settings_of(common), _update(collections, common, *more)
    if dry_run:
        from flows.train_encoders import plan_finetune

        told = plan_finetune(settings, update, encoder)
        say(common, {"plan": told}, "\n".join(f"{key}: {value}" for key, value in told.items()))
        return
    with session(settings, common):
        from flows.train_encoders import finetune as flow

        done = flow(update, encoder, name)
    _show(common, done)


@app.command
def lsa(
    *,
    dim: int | None = None,
    alone: Annotated[bool, Parameter(negative="")] = False,
    collections: str | None = None,
    name: str | None = None,
    common: Common = DEFAULT,
) -> None:
    """Make a text encoder of your own training texts, by latent semantic analysis, and let the gate judge it.

    It has seen no other text, reads any language, and stands beside the text encoders that are there, or alone.
    Examples: `modalign lsa` · `modalign lsa --alone --dim 512`

    Parameters
    ----------
    dim
        Width of its vectors at most (lsa.dim).
    alone
        Take it in place of the other encoders of texts.
    collections
        Names separated by commas; without them the one that was ingested last.
    name
        Name of the space; without it the collections' names joined by `+`.
    """
    more = () if dim is None else (f"lsa.dim={dim}",)
    settings, update = settings_of(common), _update(collections, common, *more)
    with session(settings, common):
        from flows.train_encoders import lsa as flow

        done = flow(update, alone, name)
    _show(common, done)


def _update(collections: str | None, common: Common, *more: str) -> UpdateParams:
    from config.params import UpdateParams

    return UpdateParams(collections=names_in(collections), profile=common.profile, overrides=(*common.set, *more))


def _show(common: Common, done: TrainedOutcome) -> None:
    if common.json:
        print_json({"trained": done.model_dump(mode="json")})
        return
    print(f"{done.trained.encoder or 'no encoder is kept'}: {done.trained.why}")
    if done.decision is not None:
        print(f"{done.decision.name} {done.decision.space_id}: {done.decision.event}; {done.decision.reason}")
        if done.decision.event == "refused":
            print(f"`modalign promote {done.decision.space_id[:6]} --force` takes it all the same")
