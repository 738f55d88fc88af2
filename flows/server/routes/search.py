"""`/v1/search` and `/v1/why`: what is near to a query, and which known pairs say so."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from flows.server.body import described, read
from flows.server.errors import declared
from flows.server.models import (
    MOST_FILTERS,
    MOST_HITS,
    MOST_OFFSET,
    Key,
    Mode,
    Name,
    SearchAnswer,
    SearchRequest,
    Text,
    WhyAnswer,
    WhyRequest,
)
from flows.server.service import Service, of

router = APIRouter(prefix="/v1", tags=["search"])
Served = Annotated[Service, Depends(of)]


@router.post("/search", responses=declared(404, 413, 415, 422, 503), openapi_extra=described(SearchRequest))
async def search(request: Request, service: Served) -> SearchAnswer:
    """Items near to a text, an item, an uploaded file, or a text and a medium together."""
    asked, data = await read(request, SearchRequest)
    return await service.run(lambda: service.search(asked, data))


@router.get("/search", responses=declared(404, 422, 503))
async def search_by_address(
    service: Served,
    text: Annotated[Text | None, Query(description="What to search for, in words.")] = None,
    item: Annotated[Key | None, Query(description="Key of an item: more like this.")] = None,
    target: Annotated[Name | None, Query(description="Modality of the hits.")] = None,
    k: Annotated[int, Query(ge=1, le=MOST_HITS, description="Number of hits.")] = 10,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET, description="Hits to pass over.")] = 0,
    where: Annotated[
        list[Text] | None, Query(max_length=MOST_FILTERS, description="Conditions, all of which hold.")
    ] = None,
    mode: Annotated[Mode, Query(description="vector, text, hybrid or auto.")] = "auto",
    fold: Annotated[bool, Query(description="Show near-duplicates as one hit.")] = False,  # noqa: FBT002 - a field of the query
) -> SearchAnswer:
    """The same by the address alone, without a file."""
    asked = SearchRequest(
        text=text, item=item, target=target, k=k, offset=offset, where=where or [], mode=mode, fold=fold
    )
    return await service.run(lambda: service.search(asked, None))


@router.post("/why", responses=declared(404, 413, 415, 422, 503), openapi_extra=described(WhyRequest))
async def why(request: Request, service: Served) -> WhyAnswer:
    """The known pairs nearest to a query and one of its hits: what the space has learned that brought them together."""
    asked, data = await read(request, WhyRequest)
    return await service.run(lambda: service.why(asked, data))
