"""What routes and page ask: the query core, a bounded number at once, each request by one open space."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import anyio
import anyio.to_thread
from fastapi import Request

from config.errors import UserError
from config.settings import Settings
from flows.server import thumbnails, uploads
from flows.server.errors import ApiError
from flows.server.in_force import InForce, Opened
from flows.server.metrics import Metrics
from flows.server.models import (
    Alternative,
    AnswerEvidence,
    AskAnswer,
    AskRequest,
    CaptionAnswer,
    CaptionEvidence,
    CaptionRequest,
    Health,
    HitBody,
    ItemBody,
    KnownBody,
    PairBody,
    SearchAnswer,
    SearchRequest,
    WhyAnswer,
    WhyRequest,
)
from flows.server.plane import Place, Planes
from flows.server.together import Together
from storage.workspace import Workspace
from tasks.asked import Query
from tasks.conditions import parse
from tasks.hits import Answer, Hit, Item, Known
from tasks.media.registry import Limits, MediaError

R = TypeVar("R")

AT_ONCE = 32
"""Requests that work at the same time, or wait for an encoder; others wait for a place, and the event loop goes on."""
DECODED = 4
"""Media that are decoded at the same time: each can be large."""


@dataclass(frozen=True)
class Medium:
    """Where the file of an item lies, inside its collection; None for a text."""

    path: Path | None
    modality: str
    uri: str
    text: str


class Service:
    """The space in force and everything that is asked of it. All methods but `run` block: call them in a thread."""

    def __init__(self, settings: Settings, name: str | None = None) -> None:
        self.settings = settings
        self.workspace = Workspace(root=settings.workspace, tables_uri=settings.tables_uri)
        self.metrics = Metrics()
        self.thumbnails = thumbnails.Thumbnails()
        self.in_force = InForce(
            self.workspace,
            name,
            settings.device,
            warm=_warm,
            told=lambda opened: self.metrics.in_force(opened.space_id, opened.rows),
        )
        self._planes = Planes(self.workspace.store)
        self._together = Together()
        self._decoding = threading.BoundedSemaphore(DECODED)
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def run(self, work: Callable[[], R]) -> R:
        """Do `work` in a thread, as soon as there is a place."""

        def timed() -> R:
            with self.metrics.work.time():
                return work()

        return await anyio.to_thread.run_sync(timed, limiter=self._limiter)

    def search(self, asked: SearchRequest, data: bytes | None) -> SearchAnswer:
        """The hits of one search."""
        start, opened = time.perf_counter(), self.in_force.now()
        with self._query(opened, asked.text, asked.item, data, asked.text_weight) as query:
            by_words = query.file is None and query.item is None and asked.mode != "text"
            search = partial(self._together.search, opened.searcher) if by_words else opened.searcher.search
            found = search(
                query,
                target=asked.target,
                k=asked.k,
                offset=asked.offset,
                mode=asked.mode,
                where=parse(asked.where) or None,
                fold=asked.fold,
            )
        return SearchAnswer(
            space=found.space,
            space_id=found.space_id,
            query=_told(found, data),
            target=found.target,
            mode=found.mode,
            offset=found.offset,
            more=found.more,
            hits=[_hit(hit) for hit in found.hits],
            notes=list(found.notes),
            alike=found.alike,
            seconds=time.perf_counter() - start,
        )

    def why(self, asked: WhyRequest, data: bytes | None) -> WhyAnswer:
        """The known pairs that speak for a hit."""
        opened = self.in_force.now()
        self._item(opened, asked.key)
        with self._query(opened, asked.text, asked.item, data, 0.5) as query:
            found = opened.searcher.why(query, asked.key, k=asked.k)
        evidence = [
            PairBody(
                near_query=_item(one.near_query),
                near_hit=_item(one.near_hit),
                score=one.score,
                query_similarity=one.query_similarity,
                hit_similarity=one.hit_similarity,
            )
            for one in found
        ]
        return WhyAnswer(space=opened.name, space_id=opened.space_id, key=asked.key, evidence=evidence)

    def caption(self, asked: CaptionRequest, data: bytes | None) -> CaptionAnswer:
        """A caption of an item or an upload."""
        opened = self.in_force.now()
        with self._medium(opened, asked.item, data) as (item, file):
            found = opened.searcher.caption(item=item, file=file, k=asked.k)
        return CaptionAnswer(
            space=found.space,
            space_id=found.space_id,
            text=found.text,
            score=found.score,
            origin=found.origin,
            evidence=[CaptionEvidence(text=one.text, score=one.score, item=_item(one.item)) for one in found.evidence],
            notes=list(found.notes),
        )

    def ask(self, asked: AskRequest, data: bytes | None) -> AskAnswer:
        """An answer to a question about an item or an upload."""
        opened = self.in_force.now()
        with self._medium(opened, asked.item, data) as (item, file):
            found = opened.answerer.ask(
                asked.question, item=item, file=file, candidates=asked.candidates or (), k=asked.k
            )
        return AskAnswer(
            space=opened.name,
            space_id=opened.space_id,
            answer=found.answer,
            confidence=found.confidence,
            how=found.how,
            alternatives=[Alternative(answer=one.answer, share=one.share) for one in found.alternatives],
            evidence=[
                AnswerEvidence(
                    question=one.question,
                    answer=one.answer,
                    similarity=one.media_similarity,
                    item=self._shown(opened, one.item),
                )
                for one in found.evidence
            ],
            notes=list(found.notes),
        )

    def item(self, key: str) -> KnownBody:
        """One item, and what it is paired with."""
        opened = self.in_force.now()
        found = self._item(opened, key)
        return KnownBody(
            **_item(found).model_dump(),
            space_id=opened.space_id,
            split=found.split,
            pairs=[_item(one) for one in found.pairs],
        )

    def medium(self, key: str) -> Medium:
        """Where the medium of an item lies, checked to be inside its collection."""
        opened = self.in_force.now()
        found = self._item(opened, key)
        try:
            path = opened.searcher.media_path(key) if found.path else None
        except UserError as error:
            raise ApiError(404, "medium_gone", error.message, error.mend) from None
        return Medium(path, found.modality, found.uri, found.text)

    def thumbnail(self, key: str, size: int, at: float) -> bytes:
        """A small picture of an item. Raises `ApiError` 404 for a text, 422 for what cannot be drawn."""
        found = self.medium(key)
        if found.path is None:
            raise ApiError(404, "no_thumbnail", f"item {key} is a text", "ask for its medium")
        path, side = found.path, thumbnails.size_of(size)
        changed = path.stat().st_mtime_ns
        try:
            return self.thumbnails.get(
                (f"{path}:{changed}", side, round(at, 1)),
                lambda: self.drawn(found.modality, path.read_bytes(), side, at, Limits()),
            )
        except MediaError as error:
            raise ApiError(422, error.code, error.message, "see `modalign quarantine list`") from None

    def modality_of(self, data: bytes) -> str:
        """What an upload is. Raises `ApiError` for what is no medium, or too large."""
        with self._decoding:
            return uploads.modality_of(data)

    def drawn(self, modality: str, data: bytes, size: int, at: float, limits: Limits) -> bytes:
        """A small picture of these bytes. Raises `MediaError`."""
        with self._decoding:
            return thumbnails.draw(modality, data, size, at, limits)

    def map(self) -> list[Place]:
        """A sample of the space on a plane."""
        return self._planes.of(self.in_force.now())

    def health(self) -> Health:
        """What answers."""
        opened = self.in_force.now()
        index = opened.manifest["index"]["index"]
        return Health(
            status="stale" if self.in_force.trouble else "ok",
            space=opened.name,
            space_id=opened.space_id,
            rows=opened.rows,
            modalities=list(opened.searcher.modalities),
            index=index["kind"],
            recall=index["recall"],
        )

    @contextmanager
    def _query(
        self, opened: Opened, text: str | None, item: str | None, data: bytes | None, weight: float
    ) -> Iterator[Query]:
        """The query of the core; the file of an upload lies on disk inside the block."""
        if item is not None:
            self._item(opened, item)
        if data is None:
            yield Query(text=text, item=item, text_weight=weight)
            return
        with self._upload(opened, data) as path:
            yield Query(text=text, item=item, file=path, text_weight=weight)

    @contextmanager
    def _medium(self, opened: Opened, item: str | None, data: bytes | None) -> Iterator[tuple[str | None, Path | None]]:
        """An item's key, or the file of an upload; of both, or neither, what is asked refuses."""
        if item is not None:
            self._item(opened, item)
        if data is None:
            yield item, None
            return
        with self._upload(opened, data) as path:
            yield item, path

    @contextmanager
    def _upload(self, opened: Opened, data: bytes) -> Iterator[Path]:
        """A file of an upload that the space can read; it goes with the block."""
        modality = self.modality_of(data)
        known = opened.searcher.modalities
        if modality not in known:
            raise ApiError(
                415, "modality_unknown", f"space {opened.name} holds no {modality}", f"send one of {', '.join(known)}"
            )
        with uploads.kept(data, modality) as path:
            try:
                with self._decoding:
                    yield path
            except UserError as error:  # where it lay means nothing to who sent it
                raise UserError(error.message.replace(str(path), "the file"), error.mend) from None

    def _shown(self, opened: Opened, key: str) -> ItemBody | None:
        try:
            return _item(opened.searcher.item(key))
        except UserError:
            return None

    def _item(self, opened: Opened, key: str) -> Known:
        try:
            return opened.searcher.item(key)
        except UserError as error:
            raise ApiError(404, "item_unknown", error.message, error.mend) from None


def _warm(opened: Opened) -> None:
    """Load what the first words would have to wait for."""
    if "text" in opened.searcher.modalities:
        opened.searcher.search(Query(text="a"), k=1)


def of(request: Request) -> Service:
    """The service of the app that took the request."""
    return cast("Service", request.app.state.service)


def _item(item: Item) -> ItemBody:
    address = f"/v1/items/{item.key}"
    return ItemBody(
        key=item.key,
        modality=item.modality,
        collection=item.collection,
        uri=item.uri,
        text=item.text,
        attributes=item.attributes,
        media=f"{address}/media" if item.path else None,
        thumbnail=f"{address}/thumbnail" if item.path else None,
    )


def _hit(hit: Hit) -> HitBody:
    return HitBody(
        **_item(hit).model_dump(),
        score=hit.score,
        similarity=hit.similarity,
        probability=hit.probability,
        percentile=hit.percentile,
        start=hit.start,
        found_by=list(hit.found_by),
        folded=[_item(one) for one in hit.folded],
    )


def _told(found: Answer, data: bytes | None) -> str:
    """The query in words; the place where an upload lay means nothing to who sent it."""
    if data is None:
        return found.query
    return " + ".join(part for part in found.query.split(" + ") if "modalign-upload-" not in part) or "file"
