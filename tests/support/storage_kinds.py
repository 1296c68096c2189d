"""The three kinds of storages as their paths name them, for tests of what they have in common."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.program import Program
from support.storage_server import Answer

KINDS = ["datasets", "key-value-stores", "request-queues"]
each_kind = pytest.mark.parametrize("kind", KINDS)
FORBIDDEN, ABSENT, NO_TOKEN = (
    (403, "insufficient-permissions"),
    (404, "record-not-found"),
    (401, "token-not-provided"),
)
INVALID, BAD_VALUE = (400, "invalid-request"), (400, "invalid-value")
DAY_SECS = 86_400


async def new(program: Program, kind: str, query: str = "", body: Any = None) -> dict[str, Any]:
    """A storage of jane's."""
    found: dict[str, Any] = await program.ask("POST", f"/{kind}{query}", body)
    return found


def message(answer: Answer) -> str:
    """What an error answer says."""
    return str(json.loads(answer.body)["error"]["message"])
