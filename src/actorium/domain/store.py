"""The store: which public Actors a query means, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actorium.domain.actor_prices import in_force
from actorium.domain.models import Actor, ActorStats

SORTS = ("relevance", "popularity", "newest", "lastUpdate")
PRICING_MODELS = ("FREE", "FLAT_PRICE_PER_MONTH", "PRICE_PER_DATASET_ITEM", "PAY_PER_EVENT")
RECENT_DAYS = 30
"""Popular is what was run most in this time."""

_WEIGHTS = (8, 8, 4, 2, 1)


class StoreActor(msgspec.Struct, frozen=True):
    """A public Actor with what the store sorts by; ``readme`` is only there where one searches."""

    actor: Actor
    username: str
    readme: str
    stats: ActorStats
    recent_runs: int

    @property
    def title(self) -> str:
        """What it is called; never empty."""
        return self.actor.fields.get("title") or self.actor.name


class StoreQuery(msgspec.Struct, frozen=True):
    """What to list; ``None`` = everything."""

    search: str | None = None
    sort_by: str = "relevance"
    category: str | None = None
    username: str | None = None
    pricing_model: str | None = None
    allows_agentic_users: bool | None = None


def current_pricing(actor: Actor, now: int) -> dict[str, Any]:
    """The price that is in force; ``FREE`` where there is none."""
    return in_force(actor.fields.get("pricingInfos") or [], now) or {"pricingModel": "FREE"}


def select(actors: Sequence[StoreActor], query: StoreQuery, now: int) -> list[StoreActor]:
    """Those of ``actors`` that ``query`` means, in its order."""
    words = (query.search or "").lower().split()
    scored = [(_score(found, words), found) for found in actors if _fits(found, query, now)]
    by_search = query.sort_by == "relevance"
    kept = [(score if by_search else 0, found) for score, found in scored if score > 0]
    return [found for _, found in sorted(kept, key=lambda pair: (-pair[0], *_order(pair[1], query.sort_by)))]


def _fits(found: StoreActor, query: StoreQuery, now: int) -> bool:
    # Nobody pays by an agent's protocol here.
    if query.allows_agentic_users:
        return False
    if query.category is not None and query.category not in (found.actor.fields.get("categories") or []):
        return False
    if query.username is not None and query.username.lower() != found.username.lower():
        return False
    return query.pricing_model is None or current_pricing(found.actor, now)["pricingModel"] == query.pricing_model


def _score(found: StoreActor, words: Sequence[str]) -> int:
    """How well every one of ``words`` is found; 0 = one is not."""
    if not words:
        return 1
    fields = found.actor.fields
    texts = [
        text.lower()
        for text in (found.title, found.actor.name, fields.get("description") or "", found.username, found.readme)
    ]
    total = 0
    for word in words:
        score = sum(weight for text, weight in zip(texts, _WEIGHTS, strict=True) if word in text)
        if score == 0:
            return 0
        total += score
    return total


def _order(found: StoreActor, sort_by: str) -> tuple[int, int, str]:
    if sort_by == "newest":
        return (-found.actor.created_at, 0, found.actor.id)
    if sort_by == "lastUpdate":
        return (-found.actor.modified_at, 0, found.actor.id)
    return (-found.recent_runs, -found.stats.total_runs, found.actor.id)
