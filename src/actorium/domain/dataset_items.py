"""Dataset items as texts: what may be pushed, and how stored texts are read.

Values stay the JSON text that was pushed, so numbers of any size and precision come back as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from actorium.domain.errors import ApiError, invalid
from actorium.domain.json_texts import MAX_DEPTH, is_too_deep, mend

MAX_FIELDS = 2000
"""How many field names a dataset remembers. openapi: tabular exports have at most 2000 columns."""

MAX_FIELD_LENGTH = 200
"""Longest field name that is remembered or becomes a column. openapi: dataset_items_get."""


SEPARATOR = b"\n"
"""What is between the texts of neighbouring items. A JSON text without needless whitespace has no newline inside."""


class NewItems(msgspec.Struct, frozen=True):
    """Items ready to append: their texts joined by ``SEPARATOR``, and what they add to the dataset's numbers.

    ``fields`` holds each field once, in the order of its first appearance.
    """

    block: bytes
    count: int
    clean_count: int
    fields: tuple[str, ...]

    @property
    def texts(self) -> list[bytes]:
        """The JSON text of each item."""
        return self.block.split(SEPARATOR) if self.count else []


_array = msgspec.json.Decoder(list[msgspec.Raw])
# Floats are only looked past here; as text they cannot be out of range.
_values = msgspec.json.Decoder(dict[str, Any], float_hook=str)
_raw_values = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_items(body: bytes) -> NewItems:
    """Read a push: one object or an array of objects. Anything else refuses the whole of it with 400."""
    start = body.lstrip()[:1]
    if start not in (b"{", b"["):
        raise invalid("Dataset items must be sent as a JSON object or an array of JSON objects.")
    try:
        texts = _split_array(body) if start == b"[" else [body.strip()]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error) from error
    except RecursionError as error:
        raise invalid("The dataset items are nested too deeply.") from error
    fields: dict[str, None] = {}
    clean_count = 0
    for index, text in enumerate(texts):
        if text[:1] != b"{":
            raise invalid(f"Dataset items must be JSON objects, but the item at index {index} is not.")
        try:
            mended = mend(text)
            item = _values.decode(mended)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _malformed(error, index) from error
        except RecursionError as error:
            raise _too_deep(index) from error
        if is_too_deep(text):
            raise _too_deep(index)
        if len(fields) < MAX_FIELDS:
            _collect(item, "", fields)
        clean_count += any(not key.startswith("#") for key in item)
        if b"\n" in text:
            # The library takes no half of a surrogate pair; a line break only stands between tokens.
            texts[index] = msgspec.json.format(text, indent=-1) if mended is text else text.replace(b"\n", b"")
    return NewItems(SEPARATOR.join(texts), len(texts), clean_count, tuple(fields))


def _split_array(body: bytes) -> list[bytes]:
    mended = mend(body)
    texts = [bytes(raw) for raw in _array.decode(mended)]
    if mended is body:
        return texts
    # What was mended has the same length, so each text lies where its mended twin does.
    position = 0
    for index, text in enumerate(texts):
        start = mended.index(text, position)
        position = start + len(text)
        texts[index] = body[start:position]
    return texts


def raw_fields(text: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """The top-level fields of an object by name, their values as JSON texts."""
    return _raw_values.decode(mend(bytes(text)))


def values_of(float_hook: Callable[[str], Any]) -> Callable[[bytes], dict[str, Any]]:
    """A reader of items as Python values; ``float_hook`` gets the text of each number that is not whole."""
    decoder = msgspec.json.Decoder(dict[str, Any], float_hook=float_hook)
    return lambda text: decoder.decode(mend(text))


def _malformed(error: Exception, index: int | None = None) -> ApiError:
    where = "The request body" if index is None else f"The dataset item at index {index}"
    return invalid(f"{where} is not valid JSON: {error}")


def _too_deep(index: int) -> ApiError:
    return invalid(f"The dataset item at index {index} is nested more than {MAX_DEPTH} levels deep.")


def _collect(values: dict[str, Any], prefix: str, fields: dict[str, None]) -> None:
    for key, value in values.items():
        if value and isinstance(value, (dict, list)):
            if len(fields) < MAX_FIELDS:
                inner = value if isinstance(value, dict) else {str(n): part for n, part in enumerate(value)}
                _collect(inner, f"{prefix}{key}/", fields)
        elif len(prefix) + len(key) <= MAX_FIELD_LENGTH:
            fields[prefix + key] = None
