"""What the API takes and gives; the client reads the same models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MOST_HITS, MOST_OFFSET, MOST_FILTERS = 100, 900, 20

Text = Annotated[str, StringConstraints(max_length=2_000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Mode = Literal["auto", "vector", "text", "hybrid"]
Key = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Asked(BaseModel):
    """Bodies are closed: a field that nobody knows is an error, and a number is no text."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SearchRequest(Asked):
    """A search: by `text`, by `item`, by an uploaded `file` (multipart), or by text and one of the others together."""

    text: Text | None = Field(None, description="What to search for, in words.", examples=["a dog in the snow"])
    item: Key | None = Field(None, description="Key of an item: more like this.")
    text_weight: float = Field(0.5, ge=0, le=1, description="Weight of the text where a medium is given as well.")
    target: Name | None = Field(
        None, description="Modality of the hits; without it the first that is not the query's own.", examples=["image"]
    )
    k: int = Field(10, ge=1, le=MOST_HITS, description="Number of hits.")
    offset: int = Field(0, ge=0, le=MOST_OFFSET, description="Hits to pass over: the next page.")
    where: list[Text] = Field(
        default_factory=list,
        max_length=MOST_FILTERS,
        description="Conditions on attributes, all of which hold.",
        examples=[["year>=2020", "split=train"]],
    )
    mode: Mode = Field("auto", description="vector, text (full text), hybrid (both, fused), or auto.")
    fold: bool = Field(False, description="Show near-duplicates as one hit.")


class ItemBody(BaseModel):
    """An item as a person sees it."""

    key: str
    modality: str
    collection: str
    uri: str = Field(description="Path in the collection; empty for a text.")
    text: str
    attributes: dict[str, Any]
    media: str | None = Field(None, description="Address of the medium, relative to the server.")
    thumbnail: str | None = Field(None, description="Address of a small picture, relative to the server.")


class KnownBody(ItemBody):
    """One item of the space in force, and what known pairs join it with."""

    space_id: str
    split: str
    pairs: list[ItemBody]


class HitBody(ItemBody):
    """One result. `score` ranks; `probability` is the calibrated one that the hit is right, where it is known."""

    score: float
    similarity: float | None = None
    probability: float | None = None
    percentile: float | None = None
    start: float | None = Field(None, description="Where in the item, in seconds, its best part begins.")
    found_by: list[str]
    folded: list[ItemBody] = Field(default_factory=list, description="Near-duplicates further down.")


class SearchAnswer(BaseModel):
    """The hits of one search, all of them from the space `space_id`."""

    space: str
    space_id: str
    query: str
    target: str
    mode: str
    offset: int
    more: bool = Field(description="Whether there are hits behind these.")
    hits: list[HitBody]
    notes: list[str] = Field(description="What a person should know of the answer.")
    alike: int = Field(description="How many of the first answers score alike where the query is ambiguous, else 0.")
    seconds: float


class TextBody(BaseModel):
    """The medium of a text item."""

    text: str


class PairBody(BaseModel):
    """A known pair of the training set that speaks for a hit. All three figures are 0 to 1."""

    near_query: ItemBody
    near_hit: ItemBody
    score: float = Field(description="Product of both similarities.")
    query_similarity: float
    hit_similarity: float


class CaptionEvidence(BaseModel):
    """A caption that was retrieved, and the item that it is of; `score` ranks them, and is no probability."""

    text: str
    score: float
    item: ItemBody


class AnswerEvidence(BaseModel):
    """A stored question about a medium and its answer, or a caption (then `question` is empty)."""

    question: str
    answer: str
    similarity: float = Field(description="Cosine of the medium to the one that was asked about, -1 to 1.")
    item: ItemBody | None = Field(None, description="The medium, where the space in force holds it.")


class Alternative(BaseModel):
    """A possible answer and its share, 0 to 1."""

    answer: str
    share: float


class WhyRequest(Asked):
    """Why a hit was found: the query as it was asked, and the hit's key."""

    key: Key = Field(description="Key of the hit.")
    text: Text | None = Field(None, description="The text that was searched for.")
    item: Key | None = Field(None, description="The item that was searched with.")
    k: int = Field(3, ge=1, le=20, description="Number of pairs.")


class WhyAnswer(BaseModel):
    """The known training pairs nearest to a query and its hit."""

    space: str
    space_id: str
    key: str
    evidence: list[PairBody]


class CaptionRequest(Asked):
    """A caption for an `item`, or for an uploaded `file` (multipart)."""

    item: Key | None = Field(None, description="Key of an item.")
    k: int = Field(5, ge=1, le=50, description="Pieces of evidence to list.")


class CaptionAnswer(BaseModel):
    """A caption, how sure it is, and what it was taken from."""

    space: str
    space_id: str
    text: str
    score: float = Field(description="How far the known captions of what is like it agree with it, 0 to 1.")
    origin: str = Field(description="The modality whose captions these are.")
    evidence: list[CaptionEvidence]
    notes: list[str]


class AskRequest(Asked):
    """A question about an `item`, or about an uploaded `file` (multipart)."""

    question: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
    item: Key | None = Field(None, description="Key of an item.")
    candidates: list[Text] | None = Field(None, max_length=100, description="Answers to choose from.")
    k: int = Field(5, ge=1, le=50, description="Pieces of evidence to list.")


class AskAnswer(BaseModel):
    """An answer, or null for "I don't know"; how sure it is, how it was found, and what it was taken from."""

    space: str
    space_id: str
    answer: str | None
    confidence: float | None = Field(description="Chance that it is right; null where nobody measured it.")
    how: Literal["rows", "candidates", "captions", "reader"]
    alternatives: list[Alternative]
    evidence: list[AnswerEvidence]
    notes: list[str]


class Health(BaseModel):
    """What answers, and how well its index finds."""

    status: Literal["ok", "stale"] = Field(description="stale: a newer space is published and cannot be opened.")
    space: str
    space_id: str
    rows: int
    modalities: list[str]
    index: str
    recall: float = Field(description="recall@10 of the index, measured after its build.")
