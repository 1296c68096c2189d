"""The API's OpenAPI document, where ``ACTORIUM_OPENAPI`` names it: its operations, and answers held against it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from support.storage_server import Answer

_METHODS = ("get", "head", "post", "put", "delete", "patch")


@dataclass(frozen=True)
class Operation:
    """One operation; ``query`` are its query parameters by name, each with its schema resolved."""

    id: str
    method: str
    path: str
    tags: tuple[str, ...]
    query: dict[str, dict[str, Any]]
    responses: dict[str, dict[str, Any]]


class Document:
    """The operations of an OpenAPI 3.1 document, whose schemas are JSON Schema 2020-12."""

    def __init__(self, text: str) -> None:
        self._document = json.loads(text)
        assert self._document["openapi"].startswith("3.1"), "older versions have schemas of their own"
        self._validators: dict[str, Any] = {}
        self.operations = {
            operation["operationId"]: self._operation(method, path, item, operation)
            for path, item in self._document["paths"].items()
            for method, operation in item.items()
            if method in _METHODS
        }

    def _operation(self, method: str, path: str, item: dict[str, Any], operation: dict[str, Any]) -> Operation:
        parameters = [
            self._resolved(found) for found in (*item.get("parameters", ()), *operation.get("parameters", ()))
        ]
        return Operation(
            operation["operationId"],
            method.upper(),
            path,
            tuple(operation["tags"]),
            {found["name"]: self._resolved(found["schema"]) for found in parameters if found["in"] == "query"},
            {status: self._resolved(found) for status, found in operation["responses"].items()},
        )

    def _resolved(self, value: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in value:
            found: Any = self._document
            for name in value["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            value = found
        return value

    def problems(self, operation_id: str, answer: Answer, *, is_head: bool = False) -> list[str]:
        """What in ``answer`` is not as the document says; empty when everything is. ``is_head``: it has no body."""
        operation = self.operations[operation_id]
        described = operation.responses.get(str(answer.status))
        if described is None:
            return [f"status {answer.status} is not among {sorted(operation.responses)}"]
        missing = [f"header {name} is missing" for name in described.get("headers", {}) if name not in answer.headers]
        contents = described.get("content", {})
        if not contents:
            return [*missing, *(["a body where none belongs"] if answer.body else [])]
        media_type = (answer.headers["Content-Type"] or "").partition(";")[0]
        content = contents.get(media_type, contents.get("*/*"))
        if is_head or operation.method == "HEAD":
            return missing
        if content is None:
            return [*missing, f"media type {media_type} is not among {sorted(contents)}"]
        if media_type != "application/json" or "schema" not in content:
            return missing
        where = f"{operation_id} {answer.status} {media_type}"
        validator = self._validators.get(where)
        if validator is None:
            schema = {**content["schema"], "components": self._document["components"]}
            validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
            self._validators[where] = validator
        errors = validator.iter_errors(json.loads(answer.body))
        return [*missing, *(f"{'/'.join(map(str, error.instance_path))}: {error.message}" for error in errors)]


def plain(path: str) -> str:
    """A path without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)


def given_document() -> Document:
    """The document; skips the test when none is given, which in CI is a failure."""
    given = os.environ.get("ACTORIUM_OPENAPI")
    if not given:
        assert not os.environ.get("CI"), "ACTORIUM_OPENAPI must name the API's OpenAPI document in CI"
        pytest.skip("ACTORIUM_OPENAPI does not name the API's OpenAPI document")
    return Document(Path(given).read_text())
