"""The program, with every answer held against the API's OpenAPI document where one is given."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from actorium.domain.models import Run
from support.openapi import Document
from support.program import Program
from support.storage_server import Answer

ACCEPTED = {
    r"\w+_delete media type  is not among .*": "an answer 204 has no body and so no media type",
    r"actors?_(post|put) status 409 is not among .*": "a name that is taken, as the platform answers it",
    r"\w+ error/type: \"cannot-publish-actor-task\" is not one of .*": "the document has no type for it",
}
"""Differences from the document that have to be, and why."""


class CheckedProgram(Program):
    """Collects in ``wrong`` what is not as the document says."""

    def __init__(self, data_dir: Path, database_url: str, **settings: object) -> None:
        super().__init__(data_dir, database_url, **settings)
        given = os.environ.get("ACTORIUM_OPENAPI")
        self._document = Document(Path(given).read_text()) if given else None
        self.wrong: list[str] = []

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str | Run | None = "jane",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        answer = await super().send(method, path, body, by=by, headers=headers)
        found = self.platform.api.router.find(f"/v2{path}".partition("?")[0])
        assert answer.status < 500, f"{method} {path}: {answer.body!r}"
        if self._document is not None and found is not None and method in found[0]:
            operation = found[0][method][0].operation_id
            where = f"{operation} {answer.status} {path}"
            is_documented = operation in self._document.operations
            problems = self._document.problems(operation, answer) if is_documented else []
            self.wrong += [f"{where}: {problem}" for problem in problems if not _is_accepted(operation, problem)]
        return answer


def _is_accepted(operation: str, problem: str) -> bool:
    return any(re.fullmatch(accepted, f"{operation} {problem}") for accepted in ACCEPTED)
