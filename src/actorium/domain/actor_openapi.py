"""The OpenAPI document of a build: how to run the Actor over HTTP, with its own input schema."""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.models import Actor, Build

_ENDPOINTS = (
    (
        "run-sync-get-dataset-items",
        "Executes an Actor, waits for its completion, and returns Actor's dataset items in response.",
        {"description": "OK"},
    ),
    (
        "runs",
        "Executes an Actor and returns information about the initiated run in response.",
        {
            "description": "OK",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/runsResponseSchema"}}},
        },
    ),
    (
        "run-sync",
        "Executes an Actor, waits for completion, and returns the OUTPUT from Key-value store in response.",
        {"description": "OK"},
    ),
)
_SCHEMA_KEYS = (
    "type",
    "title",
    "description",
    "default",
    "enum",
    "items",
    "properties",
    "required",
    "additionalProperties",
    "nullable",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "pattern",
)
"""What JSON Schema of OpenAPI 3.0 and input schemas have in common; the rest are hints for editors."""


def openapi_of(actor: Actor, username: str, build: Build, base_url: str) -> dict[str, Any]:
    """The document of one build; ``base_url`` is where clients reach the server."""
    definition = build.actor_definition or {}
    name = f"{username}~{actor.name}"
    schema = msgspec.json.decode(build.input_schema) if build.input_schema else {"type": "object"}
    title = actor.fields.get("title") or definition.get("title") or actor.name
    return {
        "openapi": "3.0.1",
        "info": {
            "title": title,
            "description": actor.fields.get("description") or definition.get("description") or "",
            "version": build.build_number.rpartition(".")[0],
            "x-build-id": build.id,
        },
        "servers": [{"url": f"{base_url}/v2"}],
        "paths": {
            f"/acts/{name}/{endpoint}": {
                "post": {
                    "operationId": f"{endpoint}-{username}-{actor.name}",
                    "x-openai-isConsequential": False,
                    "summary": summary,
                    "tags": ["Run Actor"],
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/inputSchema"}}},
                    },
                    "parameters": [
                        {
                            "name": "token",
                            "in": "query",
                            "required": True,
                            "schema": {"type": "string"},
                            "description": "Your API token.",
                        }
                    ],
                    "responses": {"200": response},
                }
            }
            for endpoint, summary, response in _ENDPOINTS
        },
        "components": {"schemas": {"inputSchema": _plain(schema), "runsResponseSchema": _RUN}},
    }


def _plain(schema: Any) -> Any:
    """A field of an input schema without what OpenAPI does not know."""
    if not isinstance(schema, dict):
        return schema
    plain = {key: schema[key] for key in _SCHEMA_KEYS if key in schema}
    if isinstance(plain.get("properties"), dict):
        plain["properties"] = {name: _plain(field) for name, field in plain["properties"].items()}
    if "items" in plain:
        plain["items"] = _plain(plain["items"])
    kinds = plain.get("type")
    if isinstance(kinds, list):
        # OpenAPI 3.0 has one type per schema.
        plain.pop("type")
        plain["anyOf"] = [{"type": kind, "items": {}} if kind == "array" else {"type": kind} for kind in kinds]
    elif kinds == "array":
        plain.setdefault("items", {})
    return plain


def _fields(**kinds: str) -> dict[str, Any]:
    times = {"type": "string", "format": "date-time"}
    return {name: dict(times) if kind == "time" else {"type": kind} for name, kind in kinds.items()}


_RUN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "data": {
            "type": "object",
            "properties": {
                **_fields(
                    id="string", actId="string", userId="string", startedAt="time", finishedAt="time", status="string"
                ),
                "meta": {"type": "object", "properties": _fields(origin="string", userAgent="string")},
                "stats": {
                    "type": "object",
                    "properties": _fields(
                        inputBodyLen="integer", rebootCount="integer", restartCount="integer", computeUnits="number"
                    ),
                },
                "options": {
                    "type": "object",
                    "properties": _fields(
                        build="string", timeoutSecs="integer", memoryMbytes="integer", diskMbytes="integer"
                    ),
                },
                **_fields(
                    buildId="string",
                    defaultKeyValueStoreId="string",
                    defaultDatasetId="string",
                    defaultRequestQueueId="string",
                    buildNumber="string",
                    containerUrl="string",
                    usageTotalUsd="number",
                ),
            },
        }
    },
}
