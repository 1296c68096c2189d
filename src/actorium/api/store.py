"""The store: public Actors, found by words, category, owner and price. Nobody needs a token."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from actorium.api.actor_shapes import stats_shape
from actorium.api.http import Call, Route, data_response
from actorium.api.shapes import page
from actorium.domain.actors import CATEGORIES
from actorium.domain.store import PRICING_MODELS, SORTS, StoreActor, StoreQuery, current_pricing
from actorium.services.store import Store

_AGENT_FIELDS = ("id", "title", "name", "username", "description", "notice", "badge", "categories")


class StoreRoutes:
    """Handlers of the store's routes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [Route("GET", "/v2/store", "store_get", self.search, public=True)]

    async def search(self, call: Call) -> Response:
        """The public Actors that a query means."""
        query = call.query
        offset, limit = query.page()
        query.flag("includeUnrunnableActors")
        wanted = StoreQuery(
            search=query.text("search"),
            sort_by=query.choice("sortBy", SORTS) or "relevance",
            category=query.choice("category", CATEGORIES),
            username=query.text("username"),
            pricing_model=query.choice("pricingModel", PRICING_MODELS),
            allows_agentic_users=query.flag_or_none("allowsAgenticUsers"),
        )
        for_agent = query.choice("responseFormat", ("full", "agent")) == "agent"
        found, total = await self._store.search(wanted, offset=offset, limit=limit)
        shapes = [self._shape(item, call.public_base_url) for item in found]
        if for_agent:
            shapes = [_for_agent(shape) for shape in shapes]
        return data_response(page(shapes, total=total, offset=offset, limit=limit))

    def _shape(self, found: StoreActor, base_url: str) -> dict[str, Any]:
        actor, fields = found.actor, found.actor.fields
        shape: dict[str, Any] = {
            "id": actor.id,
            "title": found.title,
            "name": actor.name,
            "username": found.username,
            "userFullName": found.username,
            "description": fields.get("description"),
            "categories": fields.get("categories") or [],
            "notice": fields.get("notice") or "NONE",
            "pictureUrl": fields.get("pictureUrl"),
            "userPictureUrl": None,
            "url": f"{base_url}/actors/{actor.id}",
            "stats": stats_shape(found.stats),
            "currentPricingInfo": current_pricing(actor, self._store.now_ms()),
            "isWhiteListedForAgenticPayments": False,
            "actorReviewCount": 0,
            "actorReviewRating": 0,
            "bookmarkCount": 0,
            "badge": None,
        }
        if fields.get("readmeSummary") is not None:
            shape["readmeSummary"] = fields["readmeSummary"]
        return shape


def _for_agent(shape: dict[str, Any]) -> dict[str, Any]:
    counts = ("totalRuns", "totalUsers", "totalUsers30Days")
    return {
        **{name: shape[name] for name in _AGENT_FIELDS},
        "stats": {name: shape["stats"][name] for name in counts},
    }
