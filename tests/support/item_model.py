"""Dataset items and what becomes of them, over plain dictionaries: the platform's rules and nothing of our own code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

Item = dict[str, Any]


class Num(str):
    """A number as it is written."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Num({self!s})"


def text_of(value: Any, space: str = "") -> str:
    """JSON of a value, numbers as they are written, ``space`` around every token, all but ASCII as escapes."""
    if isinstance(value, Num):
        return f"{space}{value}{space}"
    if isinstance(value, dict):
        parts = [f"{space}{json.dumps(key)}{space}:{text_of(part, space)}" for key, part in value.items()]
        return f"{space}{{{','.join(parts)}{space}}}{space}"
    if isinstance(value, list):
        return f"{space}[{','.join(text_of(part, space) for part in value)}{space}]{space}"
    return f"{space}{json.dumps(value)}{space}"


def value_of(text: str | bytes) -> Any:
    """The value a JSON text has, numbers as they are written."""
    return json.loads(text, parse_int=Num, parse_float=Num)


def mended(value: Any) -> Any:
    """The value with each half of a surrogate pair that stands alone as U+FFFD."""
    if isinstance(value, Num) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [mended(part) for part in value]
    return {mended(key): mended(part) for key, part in value.items()}


def window(items: Sequence[Any], offset: int, limit: int | None, *, desc: bool) -> list[Any]:
    ordered = list(items)[::-1] if desc else list(items)
    return ordered[offset:] if not limit else ordered[offset : offset + limit]


def shaped(
    items: Sequence[Item],
    *,
    skip_failed_pages: bool = False,
    simplified: bool = False,
    unwind: Sequence[str] = (),
    flatten: Sequence[str] = (),
    fields: Sequence[str] = (),
    output_fields: Sequence[str] = (),
    omit: Sequence[str] = (),
    skip_hidden: bool = False,
    skip_empty: bool = False,
) -> list[Item]:
    """The items after every step, in the platform's order."""
    found = [item for item in items if not (skip_failed_pages and "errorInfo" in item)]
    if simplified:
        found = [_projected(item, ["url", "pageFunctionResult", "errorInfo"]) for item in found]
        found = [record for item in found for record in _unwound(item, "pageFunctionResult")]
    for name in unwind:
        found = [record for item in found for record in _unwound(item, name)]
    for name in flatten:
        found = [_flattened(item, name) for item in found]
    for name in omit:
        found = [_without(item, name) for item in found]
    if fields:
        names = [pair for pair in zip(fields, output_fields or fields, strict=True) if pair[0] not in omit]
        found = [{new: part for name, new in names for part in list(_at(item, name))[:1]} for item in found]
    if skip_hidden:
        found = [{name: part for name, part in item.items() if not name.startswith("#")} for item in found]
    return [item for item in found if item or not skip_empty]


def _projected(item: Item, names: Sequence[str]) -> Item:
    return {name: item[name] for name in names if name in item}


def _unwound(item: Item, name: str) -> list[Item]:
    value = item.get(name)
    parent = {key: part for key, part in item.items() if key != name}
    if isinstance(value, dict):
        return [{**parent, **value}]
    if isinstance(value, list):
        return [{**parent, **part} if isinstance(part, dict) else {**item, name: part} for part in value]
    return [item]


def _flattened(item: Item, name: str) -> Item:
    return dict(
        pair for key, value in item.items() for pair in (_leaves(key, value) if key == name else [(key, value)])
    )


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(f"{path}.{key}", part)
    else:
        yield path, value


def _splits(name: str) -> list[tuple[str, str]]:
    return [(name[: match.start()], name[match.end() :]) for match in re.finditer(r"[./]", name)]


def _at(value: Any, name: str) -> Iterator[Any]:
    """What ``name`` may mean: a key, or else a path along keys and numbers of elements; the first is what counts."""
    inside = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(inside, dict):
        return
    inside = {str(key): part for key, part in inside.items()}
    if name in inside:
        yield inside[name]
    for head, rest in _splits(name):
        if head in inside:
            yield from _at(inside[head], rest)


def _without(item: Item, name: str) -> Item:
    if name in item:
        return {key: part for key, part in item.items() if key != name}
    for head, rest in _splits(name):
        if isinstance(item.get(head), dict) and (smaller := _without(item[head], rest)) != item[head]:
            return {**item, head: smaller}
    return item


def cells(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Columns and values of an item in a table."""
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in parts:
        if isinstance(part, (dict, list)):
            if part:
                yield from cells(part, f"{path}{key}/")
            else:
                yield f"{path}{key}", None
        else:
            yield f"{path}{key}", part


def columns(items: Sequence[Item], fields: Sequence[str] = ()) -> list[str]:
    """The columns of a table: those of ``fields`` first, in their order, then others as they are first seen."""
    seen = list(dict.fromkeys(name for item in items for name, _ in cells(item)))
    taken: dict[str, list[str]] = {field: [] for field in fields}
    others = []
    for name in seen:
        owners = [field for field in taken if name == field or name.startswith(f"{field}/")]
        (taken[max(owners, key=len)] if owners else others).append(name)
    return [name for field, names in taken.items() for name in names or [field]] + others


def cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    # A whole number is read as a number.
    return str(int(value)) if isinstance(value, Num) and re.fullmatch(r"-?\d+", value) else str(value)


KEYS = [
    "a",
    "b",
    "c",
    "#h",
    "#",
    "@",
    "",
    "a.b",
    "a/b",
    "x y",
    "0",
    "url",
    "errorInfo",
    "pageFunctionResult",
    "m²",
    "ž💛",
]
NUMBERS = ["0", "-0", "1.10", "9007199254740993", "-123456789012345678901234567890", "1e400", "-1E-400", "1.0", "2E5",
           "0.30000000000000004"]  # fmt: skip
_keys = st.sampled_from(KEYS) | st.text(st.characters(), max_size=3)
_leaves_of_items = (
    st.none()
    | st.booleans()
    | st.sampled_from(NUMBERS).map(Num)
    | st.text(st.characters(), max_size=6)
    | st.sampled_from(["\x00", "\r\n", " a ", ",;\"'", "<&>", "=1+1", "\ud83d", "\U0001f49b", "\ufffe", "_x0041_"])
)
values = st.recursive(
    _leaves_of_items,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)
items = st.dictionaries(_keys, values, max_size=5)
spaces = st.sampled_from(["", "", " ", "\n", "\t\r\n "])
_names = st.lists(st.sampled_from([*KEYS, "a.a", "a/0", "b.c.a", "a/b.c", "a.b/0", "c.", "/a"]), max_size=3)


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    """Parameters of ``shaped``."""
    flags = ["skip_failed_pages", "simplified", "skip_hidden", "skip_empty"]
    found: dict[str, Any] = {name: True for name in flags if draw(st.integers(0, 3)) == 0}
    for name in ("unwind", "flatten", "fields", "omit"):
        if draw(st.booleans()):
            found[name] = tuple(draw(_names))
    if found.get("fields") and draw(st.integers(0, 3)) == 0:
        found["omit"] = (*found.get("omit", ()), draw(st.sampled_from(found["fields"])))
    if found.get("fields") and draw(st.booleans()):
        count = len(found["fields"])
        found["output_fields"] = tuple(
            draw(st.lists(st.sampled_from(["x", "y", "#z", "a"]), min_size=count, max_size=count))
        )
    return found
