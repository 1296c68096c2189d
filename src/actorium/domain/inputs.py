"""Run input: what a build's input schema makes of the body of a start call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.input_schemas.defaults import apply_defaults
from actorium.domain.input_schemas.messages import kind_of
from actorium.domain.input_schemas.validation import InputSchema, check_input, read_input_schema
from actorium.domain.input_secrets import InputKeys, decrypt, encrypt, is_encrypted
from actorium.domain.json_schemas import finite_float
from actorium.domain.json_texts import MAX_DEPTH, is_too_deep, mend

_MAX_MASKS, _MIN_MASK_LENGTH = 200, 4
_JSON_UTF_8 = "application/json; charset=utf-8"
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_number_texts = msgspec.json.Decoder(dict[str, Any], float_hook=lambda text: msgspec.Raw(text.encode()))
_values = msgspec.json.Decoder(float_hook=finite_float)


class RunInput(msgspec.Struct, frozen=True):
    """A body and its content type, as stored in the record ``INPUT``."""

    data: bytes
    content_type: str


class CheckedInput(msgspec.Struct, frozen=True):
    """An input that fits its schema: ``values`` with defaults, and the texts of ``secrets`` to be encrypted.

    ``stored`` is the record before that; ``None`` = no record.
    """

    stored: RunInput | None
    values: dict[str, Any]
    secrets: dict[str, Any]
    schema: InputSchema | None


def is_json(content_type: str) -> bool:
    """Whether the media type is ``application/json``, parameters ignored."""
    return content_type.partition(";")[0].strip().lower() == "application/json"


def complete_input(schema_json: str | None, body: RunInput | None) -> CheckedInput:
    """The input as it came, or with the schema's defaults put in and found to fit.

    Raises 400 ``run-input-body-not-valid-json``, ``invalid-input``, or ``invalid-input-schema``. docs: runs,
    section 4.2.
    """
    if schema_json is None:
        stored = _unchecked(body)
        return CheckedInput(stored, _object_or_nothing(stored), {}, None)
    schema = read_input_schema(schema_json)
    text = _object_text(body)
    value = _decoded(text)
    completed = apply_defaults(schema.properties, value)
    check_input(schema, completed)
    secrets = _plain_secrets(schema, completed)
    if completed == value and body is not None and body.data.strip() not in (b"", b"null"):
        return CheckedInput(body, completed, secrets, schema)
    data = msgspec.json.encode(_texts(schema, text, value, completed))
    return CheckedInput(RunInput(data, _JSON_UTF_8), completed, secrets, schema)


def encrypted_input(checked: CheckedInput, keys: InputKeys) -> RunInput:
    """The record with every secret field encrypted."""
    if checked.stored is None or checked.schema is None:
        raise ValueError("an input without a schema has no secrets")
    fields = checked.schema.secret_fields
    sealed = {name: encrypt(value, fields[name], keys.public_key) for name, value in checked.secrets.items()}
    texts = _raw_object.decode(mend(checked.stored.data))
    return RunInput(msgspec.json.encode({**texts, **sealed}), _JSON_UTF_8)


def encrypted_fields(schema_json: str, values: dict[str, Any], keys: InputKeys) -> dict[str, Any]:
    """``values`` with every secret field encrypted that is not yet. Raises 400 ``invalid-input-schema``."""
    schema = read_input_schema(schema_json)
    plain = _plain_secrets(schema, values)
    return values | {name: encrypt(value, schema.properties[name], keys.public_key) for name, value in plain.items()}


def masks(checked: CheckedInput, keys: InputKeys) -> list[str]:
    """The texts of secret fields that a log must not show: whole texts, and those in objects and arrays.

    In these, short ones are left out, which would mask other words too.
    """
    found: dict[str, None] = {}
    for name in checked.schema.secret_fields if checked.schema is not None else ():
        value = checked.values.get(name)
        if isinstance(value, str) and is_encrypted(value):
            try:
                value = decrypt(value, keys)
            except ValueError:
                # Encrypted for another Actor: the SDK cannot open it either.
                continue
        if isinstance(value, str):
            found[value] = None
        else:
            found.update((text, None) for text in _inner_texts(value) if len(text) >= _MIN_MASK_LENGTH)
    return [text for text in found if text][:_MAX_MASKS]


def _inner_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _inner_texts(item)


def _plain_secrets(schema: InputSchema, values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: values[name]
        for name in schema.secret_fields
        if values.get(name) not in (None, False, "", 0) and not is_encrypted(values[name])
    }


def _texts(schema: InputSchema, text: bytes, value: dict[str, Any], completed: dict[str, Any]) -> dict[str, Any]:
    """What is stored: given fields as they were written, so that no number changes, and the defaults."""
    given = _raw_object.decode(text) if value else {}
    changed = [name for name, item in completed.items() if name in value and item is not value[name]]
    rewritten = apply_defaults(schema.properties, _number_texts.decode(text)) if changed else {}
    return {
        name: (rewritten[name] if name in changed else given[name]) if name in given else item
        for name, item in completed.items()
    }


def _unchecked(body: RunInput | None) -> RunInput | None:
    if body is None or not is_json(body.content_type):
        return body
    text = body.data.strip()
    # The Python client sends "null" for no input.
    if text in (b"", b"null"):
        return None
    try:
        _values.decode(mend(text))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(
            ErrorType.RUN_INPUT_BODY_NOT_VALID_JSON,
            f"The run input has content type application/json, but it is not valid JSON: {error}",
        ) from error
    return body


def _object_or_nothing(stored: RunInput | None) -> dict[str, Any]:
    """The fields of an input without a schema, for what looks into it."""
    if stored is None or not is_json(stored.content_type) or stored.data.lstrip()[:1] != b"{":
        return {}
    text = mend(stored.data)
    return {} if is_too_deep(text) else _values.decode(text)


def _object_text(body: RunInput | None) -> bytes:
    """The text of the input's object. Raises 400 ``invalid-input``."""
    if body is None or not body.data.strip():
        return b"{}"
    if not is_json(body.content_type):
        raise ApiError(ErrorType.INVALID_INPUT, 'Actor input must have content type "application/json".')
    return mend(body.data)


def _decoded(text: bytes) -> dict[str, Any]:
    try:
        value = _values.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(ErrorType.INVALID_INPUT, f"Cannot parse input JSON body: {error}") from error
    if is_too_deep(text):
        raise ApiError(
            ErrorType.INVALID_INPUT, f"Cannot parse input JSON body: it is nested more than {MAX_DEPTH} levels deep"
        )
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ApiError(ErrorType.INVALID_INPUT, f'The input JSON must be object, got "{kind_of(value)}" instead.')
    return value
