"""Params: what a flow computes. Frozen, closed models; they are forms in Prefect's UI and enter the cache keys."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Params(BaseModel):
    """Base of all params: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnsParams(Params):
    """Which columns of the metadata mean what."""

    texts: tuple[str, ...] = Field(
        ("text", "caption", "captions"), description="Text columns: each a string or a list of strings."
    )
    group: str | None = Field("group", description="Rows with one value belong together; a split never cuts them.")
    split: str | None = Field("split", description="Column that declares train, val or test.")
    id: str | None = Field("id", description="Column that names a row; without it the first media path does.")
    lexical: tuple[str, ...] = Field((), description="Columns for full-text search alone: never encoded.")
    question: str | None = Field("question", description="Column with a question about the media of its row.")
    answer: str | None = Field("answer", description="Its answer; a list is what several people answered.")
    answer_type: str | None = Field("answer_type", description="Column that says what kind of answer is asked for.")


class PreprocessParams(Params):
    """Bounds on what is read, and how the split is drawn where the data declares none."""

    max_pixels: int = Field(89_000_000, gt=0, description="A picture with more pixels is quarantined unread.")
    max_bytes: int = Field(256_000_000, gt=0, description="A larger file is quarantined unread.")
    max_seconds: float = Field(43_200.0, gt=0, description="A longer sound or video is quarantined.")
    max_chars: int = Field(2_000, gt=0, description="A longer text is cut here and marked truncated.")
    sound_tracks: Literal["no", "alone", "texts"] = Field(
        "no",
        description="Sound tracks of videos as items. alone: each paired with its video; texts: also with the texts of "
        "its row.",
    )
    shard_rows: int = Field(4_096, gt=0, description="Rows in one Prefect task, about.")
    heldout_share: float = Field(0.2, gt=0, lt=1, description="Share of groups held out where no split is declared.")
    split_seed: int = Field(0, ge=0, description="Seed of the drawn split.")
    failure_budget: float = Field(
        0.2, ge=0, le=1, description="Share of items that may be quarantined; beyond it the source is called broken."
    )
    removal_budget: float = Field(
        0.5, ge=0, le=1, description="Share of a collection that may vanish at once; beyond it the source is cut off."
    )
    near_duplicate: float = Field(
        0.92, gt=0, le=1, description="Cosine of two embeddings from which their contents are near-duplicates."
    )
    strict: bool = Field(
        False, description="Stop when one medium, or nearly the same, stands on both sides of a split."
    )


class EncodeParams(Params):
    """Which frozen encoders read which modality."""

    encoders: dict[str, tuple[str, ...]] = Field(
        {"image": ("builtin:efficientnet-lite0",), "text": ("builtin:minilm",)},
        description="Encoders of each modality; several of one modality are joined.",
    )
    parts: bool = Field(
        False,
        description="Keep the windows and frames of what lasts beside its pooled vector: then a hit tells its time.",
    )
    shard_items: int = Field(4_096, gt=0, description="Contents in one Prefect task, about.")

    @model_validator(mode="after")
    def _two_modalities(self) -> Self:
        if len(self.encoders) < 2 or not all(self.encoders.values()):
            raise ValueError("a joint space needs at least two modalities with one encoder each")
        return self


IndexKind = Literal["auto", "exact", "IVF_FLAT", "IVF_HNSW_SQ", "IVF_PQ", "IVF_RQ", "binary"]


class IndexParams(Params):
    """The index behind a space."""

    kind: IndexKind = Field("auto", description="auto: exact below the threshold, IVF_FLAT above.")
    metric: Literal["cosine", "l2"] = Field("cosine", description="Distance of the index.")
    recall_target: float = Field(0.95, gt=0, le=1, description="recall@10 against exact search to reach by tuning.")
    exact_below: int = Field(50_000, ge=0, description="Rows below which search is exact and no index is built.")
    fold_above: float = Field(
        0.05, ge=0, le=1, description="Share of rows outside the index beyond which they are folded in."
    )


class MineParams(Params):
    """Pairs found by similarity search."""

    method: Literal["given", "mutual"] = Field(
        "given", description="given: known pairs alone; mutual: mutual nearest neighbours among the unpaired as well."
    )
    k: int = Field(1, ge=1, le=100, description="Each must stand in the other's top k.")
    score: Literal["cosine", "dot", "euclidean", "kl", "csls"] = Field(
        "csls", description="Similarity that ranks the candidates; kl compares profiles over training pairs."
    )
    anchors: int = Field(256, ge=2, le=4_096, description="Training pairs in a profile of kl, at most.")
    seed: int = Field(0, ge=0, description="Seed that draws the anchors.")
    min_margin: float = Field(0.0, ge=0, description="Least gap between the best and the second candidate.")
    train: bool = Field(False, description="Let mined pairs train the space.")


class HeadsParams(Params):
    """Heads trained by gradient: their shape, their loss, and where they start."""

    shape: Literal["linear", "residual", "gated", "attention"] = Field(
        "linear",
        description="linear; residual: one hidden layer beside it; gated: a gate over the encoders; attention: to "
        "their tokens and patches, which are encoded for it.",
    )
    loss: Literal["siglip", "infonce", "triplet", "soft"] = Field(
        "siglip", description="What the heads are trained by."
    )
    warm: bool = Field(True, description="Start as the identity in CCA's joint space, not at random.")
    mixup: bool = Field(False, description="Train on mixed pairs (FuseMix).")
    steps: int = Field(500, ge=1, le=100_000, description="Batches.")
    batch: int = Field(512, ge=2, le=65_536, description="Pairs in a batch, one an item.")
    rate: float = Field(3e-4, gt=0, description="Largest step of AdamW.")
    decay: float = Field(0.1, ge=0, description="Weight decay.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Share of the inputs that is left out at random.")


class AlignParams(Params):
    """How the projection heads are fitted."""

    method: Literal["auto", "cca", "soft", "cotraining", "heads", "ridge", "procrustes", "asif"] = Field(
        "cca", description="By name; auto: what ranks held-out groups of the training pairs best, within a time budget."
    )
    heads: HeadsParams = HeadsParams()
    seconds: float = Field(
        300.0, gt=0, description="Time after which auto begins no further method: under load it may try fewer of them."
    )
    dim: int = Field(384, ge=2, le=2_048, description="Largest width of the joint space.")
    pca: int = Field(768, ge=2, le=4_096, description="Largest width of each encoder's principal components.")
    folds: int = Field(3, ge=2, le=20, description="Folds over groups that choose the values.")
    hubness_k: int = Field(10, ge=1, le=100, description="Neighbours in an item's hubness term.")
    bank: int = Field(5_000, ge=10, description="Largest number of frozen training queries behind the hubness terms.")
    seed: int = Field(0, ge=0, description="Seed of the folds, the bank and the training.")
    generated: bool = Field(False, description="Let captions that were generated train the space as well.")


class FinetuneParams(Params):
    """How the last blocks of a text encoder are fine-tuned, as the last stage."""

    blocks: int = Field(2, ge=1, le=48, description="Last blocks that learn; the others stay as they are.")
    loss: Literal["siglip", "infonce", "triplet", "soft"] = Field("siglip", description="What they learn by.")
    steps: int = Field(300, ge=3, le=100_000, description="Batches at most; held-out groups say where to stop.")
    batch: int = Field(512, ge=2, le=65_536, description="Pairs in a batch, one a group.")
    rate: float = Field(3e-4, gt=0, description="Largest step of AdamW for the blocks.")
    decay: float = Field(0.01, ge=0, description="Weight decay of the blocks.")
    head_rate: float = Field(3e-4, gt=0, description="Largest step for the heads that are trained beside them.")
    held: float = Field(0.1, gt=0, lt=1, description="Share of the training groups that is held out to judge.")
    pairs: int = Field(50_000, ge=100, description="Training pairs at most; of more, so many are drawn by group.")
    seed: int = Field(0, ge=0, description="Seed of what is held out, the batches and the dropout.")


class LsaParams(Params):
    """How a text encoder is made of the training texts alone, by latent semantic analysis."""

    dim: int = Field(1_024, ge=2, le=2_048, description="Width of its vectors at most.")
    texts: int = Field(100_000, ge=4, description="Training texts at most; of more, so many are drawn.")
    seed: int = Field(0, ge=0, description="Seed of the draw and of the decomposition.")


class AssessParams(Params):
    """How a space is evaluated."""

    split: str = Field("auto", description="auto: test where there is one, else val, else the held-out groups.")
    draws: int = Field(1_000, ge=100, description="Bootstrap draws, over groups.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    controls: int = Field(10, ge=1, le=100, description="Refits on shuffled pairs; their mean must fall to chance.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap and of the shuffles.")
    slices: tuple[str, ...] = Field(
        (), description="Attributes of the queries to slice by; none named: all with 2 to 20 values."
    )
    slice_groups: int = Field(20, ge=2, description="Groups in a slice, and in the rest, below which none is judged.")
    slice_gap: float = Field(
        5.0, ge=0, le=100, description="Least gap that is flagged, in points of the mean of hit_rate@1/5/10."
    )


class AnswersParams(Params):
    """How questions about media are answered, and how that is measured."""

    folds: int = Field(
        0, ge=0, le=20, description="Folds by group over all rows; 0: rows of the held-out split, by those of train."
    )
    inner: int = Field(2, ge=2, le=10, description="Folds inside the training rows, which choose the values.")
    unsure: float = Field(
        0.15, ge=0, lt=1, description="Chance of being right below which the answer is that nobody knows."
    )
    draws: int = Field(1_000, ge=100, description="Bootstrap draws, over groups.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    seed: int = Field(0, ge=0, description="Seed of the folds, of drawn rows and of the bootstrap.")


class GateParams(Params):
    """When a space may take the place of the one in force."""

    policy: Literal["measure", "always", "never"] = Field(
        "measure", description="measure: no loss beyond the tolerance; always: promote unseen; never: only by hand."
    )
    tolerance: float = Field(6.0, ge=0, description="Loss of rsum (0 to 600) that is accepted.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Certainty that the loss is no greater, one-sided.")
    draws: int = Field(1_000, ge=100, description="Draws of the paired bootstrap, over groups.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")


class RefitParams(Params):
    """When an update fits a new space: as soon as one of the thresholds is passed."""

    policy: Literal["due", "never"] = Field("due", description="due: by the thresholds below.")
    new_pairs: float = Field(0.1, gt=0, description="Share of training pairs that came or went since the fit.")
    drift: float = Field(0.05, gt=0, description="Shift of a modality's mean, as a share of its variance.")
    fall: float = Field(12.0, gt=0, description="Fall of rsum since the promotion.")


class KeepParams(Params):
    """What upkeep leaves: all else goes."""

    versions: int = Field(3, ge=1, description="Published versions of each space that readers may still have open.")
    spaces: int = Field(
        2, ge=1, description="Spaces of each name that a roll-back can reach, the one in force included."
    )
    results_days: int = Field(30, ge=1, description="Age at which a cached result goes.")
    runs_days: int = Field(30, ge=1, description="Age at which the history of a Prefect run goes.")
    fragments: int = Field(24, ge=1, description="Pieces of a table beyond which it is compacted.")
    deleted: float = Field(0.1, gt=0, le=1, description="Share of deleted rows beyond which a table is compacted.")


class PipelineParams(Params):
    """All params of a run. `source` is a folder, a table, `demo:openmoji` or `demo:tuxpaint`."""

    source: str = Field("demo:openmoji", description="Folder, table (CSV, Parquet), demo:openmoji or demo:tuxpaint.")
    collection: str | None = Field(
        None, description="Name of the collection; without it the folder's name.", examples=["photos"]
    )
    columns: ColumnsParams = ColumnsParams()
    preprocess: PreprocessParams = PreprocessParams()
    encode: EncodeParams = EncodeParams()
    index: IndexParams = IndexParams()
    mine: MineParams = MineParams()
    align: AlignParams = AlignParams()
    finetune: FinetuneParams = FinetuneParams()
    lsa: LsaParams = LsaParams()
    assess: AssessParams = AssessParams()
    answers: AnswersParams = AnswersParams()
    gate: GateParams = GateParams()
    refit: RefitParams = RefitParams()
    keep: KeepParams = KeepParams()
    refresh_cache: bool = Field(False, description="Run every task anew, whatever the cache holds.")


class CaptionParams(Params):
    """Captions for the items that have no text."""

    space: str | None = Field(None, description="Name of the space; without it the one published last.")
    collections: tuple[str, ...] = Field((), description="Collections of the space; empty: all of them.")
    generator: str | None = Field(
        None, description="A model that writes from the evidence; without it a caption is one of the evidence.",
        examples=["local:models/blip"],
    )  # fmt: skip
    shard_items: int = Field(1_024, gt=0, description="Items in one Prefect task, about.")
    refresh: bool = Field(False, description="Caption anew what this method has captioned already.")


class UpdateParams(Params):
    """What an update does. Without overrides it does with each collection what was done with it last."""

    collections: tuple[str, ...] = Field((), description="Names; empty: all recorded collections.")
    profile: str | None = Field(None, description="Params by name instead of the recorded ones.", examples=["best"])
    overrides: tuple[str, ...] = Field(
        (), description="Single params, as align.method=ridge; like the profile they hold for later updates as well."
    )
    refit: bool = Field(False, description="Fit a new space whatever the thresholds say; the gate judges it.")
    verify: bool = Field(False, description="Read every file again, whatever its size and time of change say.")
    upkeep: bool = Field(True, description="Compact and clean up at the end.")
    refresh_cache: bool = Field(False, description="Compute everything anew.")

    @property
    def label(self) -> str:
        """What it updates, in words."""
        return ", ".join(self.collections) or "all collections"
