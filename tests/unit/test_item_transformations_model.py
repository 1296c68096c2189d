"""Any items through any steps come out as the platform's rules say, and numbers as they were written."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.dataset_items import parse_items
from actorium.domain.item_shapes import Shape
from support import item_model
from support.item_model import mended, text_of, value_of

_several = st.lists(item_model.items, max_size=4)


def ordered(value: Any) -> Any:
    """A value that differs where the order of keys does, or how a number is written."""
    if isinstance(value, dict):
        return [(key, ordered(part)) for key, part in value.items()]
    return [ordered(part) for part in value] if isinstance(value, list) else repr(value)


@given(_several, item_model.spaces)
def test_what_is_pushed_is_what_is_stored(items: list[dict[str, Any]], space: str) -> None:
    new = parse_items(text_of(items, space).encode())
    assert new.count == len(items) == len(new.texts)
    assert ordered([value_of(text) for text in new.texts]) == ordered(items)
    without_space = [text_of(item).encode() for item in items]
    assert space or new.texts == without_space
    assert new.clean_count == sum(any(not key.startswith("#") for key in item) for item in items)
    assert list(new.fields) == list(dict.fromkeys(name for item in mended(items) for name, _ in item_model.cells(item)))


@given(item_model.items, item_model.spaces)
def test_one_object_is_an_item(item: dict[str, Any], space: str) -> None:
    new = parse_items(text_of(item, space).encode())
    assert ordered([value_of(text) for text in new.texts]) == ordered([item])


@given(_several, item_model.spaces, item_model.steps())
def test_every_combination_of_steps(items: list[dict[str, Any]], space: str, steps: dict[str, Any]) -> None:
    texts = parse_items(text_of(items, space).encode()).texts
    expected = item_model.shaped(mended(items), **steps)
    assert ordered([mended(value_of(text)) for text in Shape(**steps).apply(texts)]) == ordered(expected)
