"""Train an encoder on the user's training split: fine-tune one of texts on the pairs, or make one of the texts alone.

It becomes a folder of the workspace, and is named and read as any other encoder on disk: `local:FOLDER`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from prefect import task
from prefect.logging import get_run_logger

from config.errors import UserError
from config.params import AlignParams, FinetuneParams, LsaParams
from storage import schemas
from storage.filters import eq, isin
from storage.folders import fresh_folder, replace_folder
from storage.tables import Store
from storage.workspace import Workspace
from tasks.align import TRAIN, load_training, plan_of
from tasks.alignment.plan import TunePlan
from tasks.encode import spec_of
from tasks.encoders.origin import Origin
from tasks.encoders.protocol import EncoderError, EncoderSpec, slug
from tasks.encoders.runtime import cpu_count
from tasks.policies import by_content
from tasks.progress import progress
from tasks.refs import EncoderRef, TrainedRef
from tasks.sources.item import digest

TEXT = "text"
_CODE = (
    *("tasks/train_encoder.py", "tasks/align.py", "tasks/alignment", "tasks/encoders", "tasks/media/text.py"),
    *("tasks/metrics/retrieval.py", "tasks/retrieval"),
)
_TUNABLE, _LSA = "tasks.encoders.sentence:load", "tasks.encoders.lsa:load"


@task(name="finetune", task_run_name="finetune {tuned.encoder}", **by_content(*_CODE, ignore=("threads",)))
def finetune_encoder(
    workspace: Workspace,
    collections: tuple[str, ...],
    content: str,
    encoded: tuple[EncoderRef, ...],
    tuned: EncoderRef,
    align: AlignParams,
    params: FinetuneParams,
    threads: int | None,
) -> TrainedRef:
    """Train the last blocks of `tuned` on the training pairs, which `content` identifies for the cache.

    No encoder is written where held-out groups of the training pairs rank no better for it.
    """
    from tasks.alignment.finetuning import course_of, finetune
    from tasks.encoders.last_blocks import LastBlocks
    from tasks.encoders.sentence import model_folder
    from tasks.encoders.tokens import Tokens

    clock = _Clock()
    spec = tunable(tuned.encoder)
    training = load_training(workspace.store, collections, encoded)
    texts = training_texts(workspace.store, collections, encoded)
    views, plan = (training.left, training.right), plan_of(align)
    if TEXT not in [view.modality for view in views]:
        raise UserError("most known pairs join no texts", "fine-tuning learns from pairs of texts and other media")
    course, rows = course_of(views, training.pairs, TEXT, spec.name, plan, most=params.pairs, seed=params.seed)
    how = TunePlan(**params.model_dump(exclude={"pairs"}))
    scratch = workspace.encoders  # what a killed run leaves there is no encoder that is in use: upkeep takes it away
    scratch.mkdir(parents=True, exist_ok=True)
    with _user_errors(), model_folder(spec, workspace.models) as source:
        tokens = Tokens(source / "tokenizer.json", spec.max_tokens or 256, 0)([texts[row] for row in rows.tolist()])[0]
        model = LastBlocks(source, how.blocks, spec.pooling)
        batch = min(how.batch, len(np.unique(course.groups)))
        with progress(f"finetune {slug(spec)}", len(tokens) + how.steps * batch) as advance:
            found = finetune(course, tokens, model, how, scratch=scratch, cores=threads or cpu_count(), advance=advance)
        encoder = None
        if found.steps:
            mark = digest("finetune", content, tuned.table, align.model_dump_json(), params.model_dump_json())[:12]
            folder = workspace.encoders / f"{_label(spec)}-{mark}"
            _write(folder, model.save, _tuned_origin(spec, collections, params, found._asdict()))
            encoder = f"local:{folder}" if spec.pooling == "mean" else f"local:{folder}?pooling={spec.pooling}"
    ranks = f"rsum of held-out groups of the training pairs {found.before:.1f}"
    why = f"{ranks} → {found.after:.1f} after {found.steps} steps"
    if encoder is None:
        why = f"{ranks} before, {max(one['rsum'] for one in found.tried[1:]):.1f} at best after it: nothing is kept"
    get_run_logger().info("%s: %s", spec.name, why)
    return TrainedRef(encoder=encoder, modality=TEXT, why=why, **clock.spent())


@task(name="train lsa", task_run_name="train lsa on the texts of {collections}", **by_content(*_CODE))
def train_lsa(workspace: Workspace, collections: tuple[str, ...], content: str, params: LsaParams) -> TrainedRef:
    """Make an encoder of the training texts, which `content` identifies for the cache: latent semantic analysis."""
    from tasks.encoders.lsa_fit import fit_lsa, languages_of, save_lsa

    clock = _Clock()
    texts = training_texts(workspace.store, collections)
    if len(texts) > params.texts:
        drawn = np.random.default_rng(params.seed).choice(len(texts), params.texts, replace=False)
        texts = [texts[row] for row in np.sort(drawn).tolist()]
    with _user_errors():
        words, components, usual = fit_lsa(texts, params.dim, params.seed)
    folder = workspace.encoders / f"lsa-{digest('lsa', content, params.model_dump_json())[:12]}"
    origin = Origin(
        base="",
        licence="as its training texts",
        seen=f"trained on the training texts of {', '.join(collections)} alone",
        languages=languages_of(words),
        how={"method": "lsa", "texts": len(texts), "terms": len(words), "seed": params.seed},
    )
    _write(folder, lambda fresh: save_lsa(fresh, words, components, usual), origin)
    why = f"{components.shape[1]:,} directions of {len(words):,} terms in {len(texts):,} training texts"
    get_run_logger().info("lsa: %s", why)
    return TrainedRef(encoder=f"local:{folder}", modality=TEXT, why=why, **clock.spent())


def tunable(encoder: str) -> EncoderSpec:
    """The spec of a text encoder that can be fine-tuned: a BERT or MPNet. Raises `UserError` for another."""
    spec = spec_of(encoder, TEXT)
    if spec.loader != _TUNABLE:
        raise UserError(f"{encoder} cannot be fine-tuned", "only BERT and MPNet can; name one with --encoder")
    return spec


def is_lsa(encoder: str) -> bool:
    """Whether an encoder of texts is one of those that `train_lsa` makes."""
    return spec_of(encoder, TEXT).loader == _LSA


def training_texts(store: Store, collections: tuple[str, ...], encoded: tuple[EncoderRef, ...] = ()) -> list[str]:
    """The texts of the training split by key, those with vectors under every one of these encoders of texts."""
    where = isin("collection", collections) & eq("modality", TEXT) & eq("split", TRAIN)
    items = store.read(schemas.ITEMS, ["key", "content_hash", "text"], where).sort_by("key")
    contents, texts = (items[name].to_pylist() for name in ("content_hash", "text"))
    missing: set[str] = set()
    for one in encoded:
        if one.modality == TEXT:
            missing.update(store.missing(one.table, sorted(set(contents))))
    return [text for content, text in zip(contents, texts, strict=True) if content not in missing]


def distinct_texts(store: Store, collections: tuple[str, ...]) -> set[str]:
    """Content hashes of all texts."""
    return set(store.strings(schemas.ITEMS, "content_hash", isin("collection", collections) & eq("modality", TEXT)))


def _tuned_origin(
    spec: EncoderSpec, collections: tuple[str, ...], params: FinetuneParams, found: dict[str, object]
) -> Origin:
    figures = {name: found[name] for name in ("steps", "before", "after")}
    seen = f"fine-tuned on the training pairs of {', '.join(collections)}"
    return Origin(
        base=spec.name,
        licence=spec.licence,
        seen=f"{spec.seen}; {seen}" if spec.seen else seen,
        languages=spec.languages,
        how={"method": "last blocks"} | params.model_dump() | figures,
    )


def _write(folder: Path, save: Callable[[Path], None], origin: Origin) -> None:
    """An encoder and what it says of itself, in one step."""
    fresh = fresh_folder(folder)
    save(fresh)
    origin.save(fresh)
    replace_folder(fresh, folder)


def _label(spec: EncoderSpec) -> str:
    """A short name: that of the encoder, of a folder its last part without a former mark."""
    if not spec.name.startswith("local:"):
        return slug(spec)
    plain = re.sub("-[0-9a-f]{12}$", "", Path(spec.source).name.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40] or "encoder"


class _Clock:
    """Seconds since it was made, on the wall and of all threads of this process."""

    def __init__(self) -> None:
        self._begin = time.perf_counter(), time.process_time()

    def spent(self) -> dict[str, float]:
        """Both."""
        wall, cpu = self._begin
        return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}


@contextmanager
def _user_errors() -> Iterator[None]:
    """What the libraries say against the encoder or the pairs is the user's error."""
    try:
        yield
    except EncoderError as error:
        raise UserError(error.message, error.mend) from None
    except ValueError as error:
        raise UserError(str(error), "give more known pairs") from None
