"""The key-value store schema: what may be one, which keys a collection holds, whether a record fits.

docs: key_value_store_schema.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.json_schemas import Validator, compile_schema, finite_float, violations
from actorium.domain.json_texts import MAX_DEPTH, is_too_deep, mend
from actorium.domain.records import KeyRange, check_key

MAX_CHECKED_BYTES = 9_437_184
"""Largest record, decoded, of a collection with a JSON schema: it is held in memory to be checked."""

_JSON = "application/json"
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+", re.ASCII)
_values = msgspec.json.Decoder(float_hook=finite_float)


class Collection(msgspec.Struct, frozen=True):
    """Some keys of a store, and what their records must be; ``content_types`` empty: anything."""

    name: str
    keys: KeyRange
    content_types: tuple[str, ...]
    validator: Validator | None


def check_store_schema(schema: dict[str, Any]) -> None:
    """Refuse what is not a key-value store schema. Raises 400 ``store-schema-invalid``."""
    version = schema.get("actorKeyValueStoreSchemaVersion", 1)
    if version != 1:
        raise _broken(f"actorKeyValueStoreSchemaVersion must be 1, but is {version!r}")
    _collections(schema)


def _collections(schema: dict[str, Any]) -> dict[str, Collection]:
    given = schema.get("collections")
    if given is not None and not isinstance(given, dict):
        raise _broken("collections must be an object with a collection for each name")
    return {name: _collection(name, collection) for name, collection in (given or {}).items()}


@lru_cache(maxsize=256)
def _known(schema_json: str | None) -> dict[str, Collection]:
    return {} if schema_json is None else _collections(msgspec.json.decode(schema_json))


def collection_keys(schema_json: str | None, name: str) -> KeyRange:
    """The keys of the collection ``name``. Raises 400 ``invalid-collection`` when there is none."""
    known = _known(schema_json)
    if name in known:
        return known[name].keys
    has = f"its collections are {', '.join(sorted(known))}" if known else "it has no collections"
    raise ApiError(ErrorType.INVALID_COLLECTION, f"The key-value store has no collection {name[:100]!r}: {has[:1000]}.")


def _collection(name: str, given: Any) -> Collection:
    where = f"collections.{name}"
    if not isinstance(given, dict):
        raise _broken(f"{where} must be an object")
    wholes = [field for field in ("key", "keyPrefix") if given.get(field) is not None]
    if len(wholes) != 1:
        raise _broken(f"{where} must have exactly one of key and keyPrefix")
    text = given[wholes[0]]
    if not isinstance(text, str):
        raise _broken(f"{where}.{wholes[0]} must be a text")
    try:
        check_key(text)
    except ApiError as error:
        raise _broken(f"{where}.{wholes[0]}: {error.message}") from error
    types = given.get("contentTypes")
    if types is not None and not (
        isinstance(types, list)
        and types
        and all(isinstance(kind, str) and _MEDIA_TYPE.fullmatch(kind) for kind in types)
    ):
        raise _broken(f"{where}.contentTypes must be a list of media types without parameters, such as image/png")
    content_types = tuple(kind.lower() for kind in types or ())
    validator, json_schema = None, given.get("jsonSchema")
    if json_schema is not None:
        if not isinstance(json_schema, dict):
            raise _broken(f"{where}.jsonSchema must be a JSON schema, which is an object")
        if content_types not in ((), (_JSON,)):
            raise _broken(f"{where} has a jsonSchema, so its contentTypes must be {_JSON} alone")
        try:
            validator = compile_schema(json_schema)
        except ValueError as error:
            raise _broken(f"{where}.jsonSchema is not a valid JSON schema of draft 7: {error}") from error
        content_types = (_JSON,)
    keys = KeyRange.of_key(text) if wholes == ["key"] else KeyRange.of_prefix(text)
    return Collection(name, keys, content_types, validator)


def _broken(reason: str) -> ApiError:
    return ApiError(ErrorType.STORE_SCHEMA_INVALID, f"Key-value store schema is not valid: {reason}.")


class RecordRules:
    """What the schema of a store asks of the record ``key``; every collection that holds the key counts."""

    def __init__(self, schema_json: str | None, key: str) -> None:
        self._key = key
        self._collections = [found for found in _known(schema_json).values() if key in found.keys]
        self._checked = [found for found in self._collections if found.validator is not None]

    @property
    def needs_value(self) -> bool:
        """Whether the value is to be checked too."""
        return bool(self._checked)

    def check_content_type(self, content_type: str) -> None:
        """Raises 400 ``schema-validation-error`` for a media type no record of a collection may have."""
        media_type = content_type.partition(";")[0].strip().lower()
        for collection in self._collections:
            allowed = collection.content_types
            if allowed and media_type not in allowed:
                raise self._unfit(
                    collection,
                    f"its content type must be {' or '.join(allowed)}, but is {media_type[:100]}",
                    {"contentType": content_type, "allowedContentTypes": list(allowed)},
                )

    def check_value(self, value: bytes) -> None:
        """Raises 400 ``schema-validation-error`` naming everything in ``value``, decoded, that breaks a JSON schema."""
        parsed = self._parsed(value) if self._checked else None
        for collection in self._checked:
            found = [] if collection.validator is None else violations(collection.validator, parsed)
            if found:
                said = "; ".join(f"{error['instancePath'] or 'the value'} {error['message']}" for error in found[:5])
                raise self._unfit(collection, said, {"validationErrors": found})

    def _parsed(self, value: bytes) -> Any:
        try:
            parsed = _values.decode(mend(value))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.broken(f"it is not valid JSON: {error}") from error
        except RecursionError as error:
            raise self._too_deep() from error
        if is_too_deep(value):
            raise self._too_deep()
        return parsed

    def _too_deep(self) -> ApiError:
        return self.broken(f"it is nested more than {MAX_DEPTH} levels deep")

    def broken(self, reason: str) -> ApiError:
        """400: the value cannot be held against a JSON schema."""
        return self._unfit(self._checked[0], reason, {})

    def too_large(self) -> ApiError:
        """413: the value is too large to be held against a JSON schema."""
        return ApiError(
            ErrorType.RECORD_TOO_LARGE,
            f"Record {self._key} is too large: collection {self._checked[0].name} of the key-value store has a JSON "
            f"schema, so its records may have at most {MAX_CHECKED_BYTES} bytes when decoded.",
        )

    def _unfit(self, collection: Collection, reason: str, data: dict[str, Any]) -> ApiError:
        return ApiError(
            ErrorType.SCHEMA_VALIDATION_ERROR,
            f"Record {self._key} does not fit collection {collection.name} of the key-value store: {reason}.",
            {"key": self._key, "collection": collection.name, **data},
        )
