"""The dataset schema: what may be one, and whether pushed items fit its ``fields``. docs: dataset_schema."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from actorium.domain.dataset_items import NewItems, values_of
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.item_shapes import View
from actorium.domain.json_schemas import Validator, compile_schema, finite_float, violations

_values = values_of(finite_float)


def check_schema(schema: dict[str, Any]) -> None:
    """Refuse what is not a dataset schema. Raises 400 ``dataset-schema-invalid``."""
    fields, views = schema.get("fields"), schema.get("views")
    if fields is not None:
        if not isinstance(fields, dict):
            raise _broken("fields must be a JSON schema, which is an object")
        try:
            compile_schema(fields)
        except ValueError as error:
            raise _broken(f"fields is not a valid JSON schema of draft 7: {error}") from error
    if views is None:
        return
    if not isinstance(views, dict):
        raise _broken("views must be an object with a view for each name")
    for name, view in views.items():
        if not isinstance(view, dict):
            raise _broken(f"views.{name} must be an object")
        try:
            msgspec.convert(view.get("transformation") or {}, View)
        except msgspec.ValidationError as error:
            raise _broken(f"views.{name}.transformation: {error}") from error


def _broken(reason: str) -> ApiError:
    return ApiError(ErrorType.DATASET_SCHEMA_INVALID, f"Dataset schema is not valid: {reason[:500]}.")


@lru_cache(maxsize=256)
def _validator(fields_json: bytes) -> Validator:
    return compile_schema({"type": "array", "items": msgspec.json.decode(fields_json)})


def check_items(schema: dict[str, Any], new: NewItems) -> None:
    """Hold items against a dataset's schema. Raises 400 ``schema-validation-error`` that names each unfit item.

    Positions and paths count from 0 in the pushed array; a single object counts as an array of one.
    """
    fields = schema.get("fields")
    if not fields:
        return
    items = [_values(text) for text in new.texts]
    by_position: dict[int, list[dict[str, Any]]] = {}
    for violation in violations(_validator(msgspec.json.encode(fields)), items):
        position = int(violation["instancePath"].split("/")[1])
        by_position.setdefault(position, []).append(violation)
    if by_position:
        unfit = [{"itemPosition": n, "validationErrors": by_position[n]} for n in sorted(by_position)]
        raise ApiError(ErrorType.SCHEMA_VALIDATION_ERROR, "Schema validation failed", {"invalidItems": unfit})
