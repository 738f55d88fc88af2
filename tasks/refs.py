"""What passes between tasks: small, frozen, JSON-serialisable references and reports, never an array or a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from storage.ann import Index


class Ref(BaseModel):
    """Base of all references: frozen, and a field nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(Ref):
    """A range of content buckets, `lo` ≤ bucket < `hi`, and the digest of what lies in it.

    The buckets are prefixes of content hashes, so an added item changes one shard's digest and no other's.
    """

    lo: int = Field(ge=0)
    hi: int = Field(gt=0)
    number: int = Field(ge=1, description="Position for people: 3 of 12.")
    of: int = Field(ge=1)
    rows: int = Field(ge=0)
    digest: str
    pending: int = Field(default=0, ge=0, description="Rows without a result yet; not part of the cache key.")


class ScanReport(Ref):
    """What a scan of the source found: the shards to preprocess and the rows that could not be read."""

    collection: str
    root: str
    rows: int
    media: int
    texts: int
    questions: int = 0
    bad_rows: int
    shards: tuple[Shard, ...]
    notes: tuple[str, ...] = ()


class PreprocessReport(Ref):
    """Counts of one preprocessed shard."""

    items: int = 0
    pairs: int = 0
    quarantined: int = 0
    written: int = 0
    removed: int = 0
    seconds: float = 0.0


class Leak(Ref):
    """One content that stands on both sides of a split."""

    modality: str
    content_hash: str
    splits: tuple[str, ...]
    examples: tuple[str, ...]


class GroupReport(Ref):
    """Groups, splits and what crosses them."""

    groups: int
    splits: dict[str, int] = Field(description="Items in each split.")
    drawn: bool = Field(description="The split was drawn here (seeded), not declared by the data.")
    moved: int = Field(description="Items declared in another split, moved so that no group is cut.")
    media_leaks: int = 0
    text_leaks: int = Field(default=0, description="Distinct texts that stand on both sides of a split.")
    examples: tuple[Leak, ...] = ()
    digest: str = Field(description="Identity of all items with their groups and splits, and of the given pairs.")

    @classmethod
    def joined(cls, reports: Sequence[Self]) -> Self:
        """The report of several collections together."""
        if len(reports) == 1:
            return reports[0]
        splits: Counter[str] = Counter()
        for one in reports:
            splits.update(one.splits)
        return cls(
            groups=sum(one.groups for one in reports),
            splits=dict(splits),
            drawn=any(one.drawn for one in reports),
            moved=sum(one.moved for one in reports),
            media_leaks=sum(one.media_leaks for one in reports),
            text_leaks=sum(one.text_leaks for one in reports),
            examples=tuple(leak for one in reports for leak in one.examples),
            digest="+".join(one.digest for one in reports),
        )


class NearPair(Ref):
    """Two contents of one modality that are nearly the same, by file or text, and the split of each."""

    modality: str
    left: str
    right: str
    splits: tuple[str, str]
    score: float


class NearCounts(Ref):
    """Of one modality: distinct contents, pairs of near-duplicates, their clusters, held-out ones near to training."""

    contents: int
    pairs: int
    clusters: int
    leaks: int


class DuplicateReport(Ref):
    """Near-duplicates among the items of a space, from a cosine of `threshold` on; the nearest as examples."""

    threshold: float
    counts: dict[str, NearCounts]
    leaked: tuple[NearPair, ...] = Field(default=(), description="Held out on the left, training on the right.")
    pairs: tuple[NearPair, ...] = ()

    @property
    def media_leaks(self) -> int:
        """Held-out media with a near-duplicate in training. Texts are counted, but people do write the same twice."""
        return sum(one.leaks for modality, one in self.counts.items() if modality != "text")


class EncoderRef(Ref):
    """Which table holds the vectors of a modality under an encoder."""

    modality: str
    encoder: str
    table: str


class EncodePlan(Ref):
    """The shards of one modality under its encoders; what is pending lacks something under one of them."""

    sources: tuple[EncoderRef, ...]
    contents: int
    pending: int
    shards: tuple[Shard, ...]


class EncodeReport(Ref):
    """Counts and seconds of one encoder; read, encode and write overlap, so they may add up to more than `wall`.

    Of what encoders do together, reading, decoding and waiting for it, each has its share: their walls add up.
    """

    encoder: str
    modality: str
    encoded: int = 0
    skipped: int = 0
    quarantined: int = 0
    truncated: int = 0
    read_seconds: float = 0.0
    encode_seconds: float = 0.0
    write_seconds: float = 0.0
    starved_seconds: float = Field(default=0.0, description="In which the encoder waited for the reader.")
    blocked_seconds: float = Field(default=0.0, description="In which it waited for the writer.")
    ready_batches: float = Field(default=0.0, description="Read batches that lay before it, on average.")
    wall_seconds: float = 0.0


class Usage(Ref):
    """What a run took: the most memory of its process, and its seconds by what it was at, which add up to the wall.

    `read` and `write` are those in which the encoder waited for a reader (decoding included) or the writer; `prefect`
    those between the tasks. Tasks that run on other machines count as that, too.
    """

    peak_bytes: int
    wall_seconds: float
    spent_seconds: dict[str, float]


class Ingested(Ref):
    """A collection that is preprocessed and encoded; `content` identifies its items, groups, splits and pairs."""

    collection: str
    content: str
    encoded: tuple[EncoderRef, ...]
    rows: int
    groups: GroupReport
    quarantined: int
    stages: tuple[EncodeReport, ...]
    written: int = Field(default=0, description="Items and pairs written.")
    removed: int = Field(default=0, description="Items and pairs removed.")
    seconds: float
    usage: Usage | None = None

    @classmethod
    def encoders(cls, many: Sequence[Self]) -> tuple[EncoderRef, ...]:
        """The encoders of several collections together: of each modality those of the first one that has it."""
        out: dict[str, tuple[EncoderRef, ...]] = {}
        for one in many:
            of: dict[str, list[EncoderRef]] = {}
            for encoder in one.encoded:
                of.setdefault(encoder.modality, []).append(encoder)
            out = {name: tuple(encoders) for name, encoders in of.items()} | out
        return tuple(encoder for encoders in out.values() for encoder in encoders)


class TrainedRef(Ref):
    """An encoder that was trained here, by name; None where none was worth keeping. `why` says it in figures."""

    encoder: str | None
    modality: str
    why: str
    seconds: float
    cpu_seconds: float


class MiningRound(Ref):
    """A round of pseudo-pairs: held-out rsum before and after it, over folds of the given pairs."""

    number: int
    before: float
    after: float
    accepted: bool
    modality: str = Field(default="", description="The bound modality that it refines; empty for the base.")
    pseudo_pairs: int = Field(default=0, description="Those that the heads stand on: of the last accepted round.")


class SpaceRef(Ref):
    """A fitted space: where its heads lie and which table holds its items; why this method, and rounds of mining."""

    name: str
    space_id: str
    path: str
    table: str
    modalities: tuple[str, ...]
    dim: int
    method: str
    pairs: int
    why: str = ""
    rounds: tuple[MiningRound, ...] = ()
    bound: dict[str, str] = Field(default_factory=dict, description="The pivot of each modality bound to the base.")

    @property
    def base(self) -> tuple[str, str]:
        """The two modalities that were fitted together, by name; all others are bound to them."""
        left, right = sorted(name for name in self.modalities if name not in self.bound)
        return left, right

    @property
    def further(self) -> tuple[tuple[str, str], ...]:
        """All other pairs of modalities, by name."""
        return tuple(pair for pair in combinations(sorted(self.modalities), 2) if pair != self.base)

    def through(self, one: str, other: str) -> tuple[str, ...]:
        """The modalities that a search from one to the other goes through; none where they were fitted together."""
        fitted = {frozenset(self.base), *(frozenset(pair) for pair in self.bound.items())}
        if one == other or frozenset((one, other)) in fitted:
            return ()
        later = max((one, other), key=lambda name: self.modalities.index(name) if name in self.bound else -1)
        pivot = self.bound[later]
        if later == one:
            return (pivot, *self.through(pivot, other))
        return (*self.through(one, pivot), pivot)


class IndexRef(Ref):
    """The index behind a space, with its recall@10 measured against exact search, at a table version and its rows."""

    table: str
    version: int
    rows: int
    index: Index


class AnswersRef(Ref):
    """The measured answers to the questions of a collection: where the figures lie, and the figures."""

    collection: str
    path: str
    metrics: dict[str, Any]


class ScoreRef(Ref):
    """The metrics of a space, and the file that keeps them."""

    space_id: str
    split: str
    path: str
    metrics: dict[str, Any]


class ReportRef(Ref):
    """The report on a space: one file, to be opened in a browser."""

    space_id: str
    path: str


class Projected(Ref):
    """The table of a space, filled: how many rows it has, and how many were projected, edited or removed for that."""

    table: str
    rows: int
    projected: int = 0
    edited: int = 0
    removed: int = 0
    seconds: float = 0.0


class Moments(Ref):
    """The parts of a space's items in the joint space: how many, and how many were projected or removed for that."""

    table: str
    rows: int = 0
    projected: int = 0
    removed: int = 0
    seconds: float = 0.0


class Aligned(Ref):
    """A fitted, projected and indexed space, and what it was made of: the manifest that a name is published with."""

    space: SpaceRef
    index: IndexRef
    collections: tuple[str, ...]
    encoded: tuple[EncoderRef, ...]
    groups: GroupReport
    mined: int = 0


class CaptionPlan(Ref):
    """The items of a collection that are to be captioned, in shards, and the method that does it."""

    collection: str
    method: str
    pending: int
    shards: tuple[Shard, ...]


class CaptionReport(Ref):
    """Captions of one shard or of a collection; a caption has no words where nothing near was known."""

    collection: str
    captioned: int = 0
    wordless: int = 0
    seconds: float = 0.0
    examples: tuple[tuple[str, str, float], ...] = Field(default=(), description="Item, caption, score: some of them.")


class Captioned(Ref):
    """What a flow over whole collections captioned, or would, or took back (`dropped`)."""

    space: str
    method: str
    pending: dict[str, int] = Field(default_factory=dict)
    reports: tuple[CaptionReport, ...] = ()
    dropped: dict[str, int] = Field(default_factory=dict)
    seconds: float = 0.0


class Decision(Ref):
    """Whether a space took the place of the one in force, why, and the figures behind it.

    `event` is promoted, refused, or kept for the space that was in force already.
    """

    name: str
    space_id: str
    event: Literal["promoted", "refused", "kept"]
    reason: str
    figures: dict[str, Any] = Field(default_factory=dict)


class TrainedOutcome(Ref):
    """An encoder that was trained here, what it encoded, the space with it and what the gate said; None without one."""

    trained: TrainedRef
    stages: tuple[EncodeReport, ...] = ()
    aligned: Aligned | None = None
    decision: Decision | None = None


class Outcome(Ref):
    """What a run of the whole pipeline gives: `outcome.score.metrics["rsum"]`, say."""

    ingested: Ingested
    aligned: Aligned
    score: ScoreRef
    decision: Decision


class Staleness(Ref):
    """How far a space is behind the data: figures, and the reasons to fit a new one (none: it is up to date)."""

    changed_pairs: float = Field(description="Share of training pairs that came or went since the fit.")
    drift: dict[str, float] = Field(description="Shift of each modality's mean, as a share of its variance.")
    rsum: float | None = Field(description="On the held-out groups as they are now; None where none are held out.")
    rsum_promoted: float | None = Field(description="When it was promoted, on the held-out groups of then.")
    reasons: tuple[str, ...]
    extends: bool = Field(default=False, description="Bound modalities alone are new or changed: no other head is due.")


class Rate(Ref):
    """How fast something went when it was done last."""

    per_second: float


class EncoderWork(Ref):
    """Vectors that an encoder would compute; seconds by the rate of the last run, None where there was none."""

    modality: str
    encoder: str
    table: str
    vectors: int
    seconds: float | None


class CollectionPlan(Ref):
    """What an update would do with a collection: items by modality, by what happened to them."""

    collection: str
    source: str
    rows_waiting: int = Field(description="Staged rows of buckets that differ from the tables.")
    files_read: int = Field(description="Files whose size or time of change is new.")
    added: dict[str, int]
    changed: dict[str, int] = Field(description="The same item with another content.")
    edited: dict[str, int] = Field(description="The same content; its words, split or attributes differ.")
    moved: dict[str, int] = Field(description="The same content under another path: nothing to compute.")
    removed: dict[str, int]
    pairs_added: int
    pairs_removed: int
    answers_added: int = 0
    answers_removed: int = 0
    faults: int = Field(description="What cannot be read among the waiting rows.")
    examples: tuple[str, ...]
    work: tuple[EncoderWork, ...]


class SpacePlan(Ref):
    """A space in force that the change touches, and what is known of its staleness before it."""

    name: str
    space_id: str
    touched: bool
    changed_pairs: float = Field(description="Share of training pairs that would have come or gone; an estimate.")
    reasons: tuple[str, ...]


class UpdatePlan(Ref):
    """What an update would do, and about how long it would take."""

    collections: tuple[CollectionPlan, ...]
    spaces: tuple[SpacePlan, ...]
    seconds: float | None
    skipped: tuple[str, ...] = ()


class SpaceUpdate(Ref):
    """What an update did with a space, and the space that was fitted in its place, if it was due."""

    name: str
    projected: Projected
    aligned: Aligned
    staleness: Staleness
    decision: Decision | None = None


class Upkeep(Ref):
    """What upkeep freed or (in a dry run) would free: bytes by kind, and what was dropped."""

    dry_run: bool
    bytes: dict[str, int]
    dropped: tuple[str, ...] = ()
    compacted: tuple[str, ...] = ()


class Updated(Ref):
    """What an update did."""

    ingested: tuple[Ingested, ...]
    spaces: tuple[SpaceUpdate, ...]
    upkeep: Upkeep | None
    skipped: tuple[str, ...] = ()
    seconds: float
    usage: Usage | None = None


class Mined(Ref):
    """Pairs found by similarity search: how many, and their identity.

    `precision` is estimated from hidden given pairs, for items whose partner is there, by `judged` ends of matches.
    """

    mined: int
    digest: str
    precision: float | None = None
    interval: tuple[float, float] | None = None
    judged: int = 0
