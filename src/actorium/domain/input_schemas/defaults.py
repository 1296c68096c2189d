"""What an input schema adds to an input: the defaults of absent fields. docs: actors, section 5.3."""

from __future__ import annotations

from typing import Any

_NONE = object()


def apply_defaults(properties: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """``value`` with the defaults of absent fields; ``null`` counts as a value.

    An object that is there keeps the keys it has; objects in arrays get the defaults of their items. A field that
    nothing is added to is the same object as before.
    """
    completed = dict(value)
    for name, field in properties.items():
        if not isinstance(field, dict):
            continue
        if name not in value:
            default = _default(field)
            if default is not _NONE:
                completed[name] = default
        elif isinstance(value[name], list):
            completed[name] = _complete_items(field, value[name])
    return completed


def _default(field: dict[str, Any]) -> Any:
    inner = field.get("properties")
    if field.get("type") == "object" and isinstance(inner, dict):
        subs = {name: _default(sub) for name, sub in inner.items() if isinstance(sub, dict)}
        merged = {name: default for name, default in subs.items() if default is not _NONE}
        own = field.get("default")
        merged.update(own if isinstance(own, dict) else {})
        return merged or (own if "default" in field else _NONE)
    return field.get("default", _NONE)


def _complete_items(field: dict[str, Any], items: list[Any]) -> list[Any]:
    schema = field.get("items")
    inner = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(inner, dict) or not _has_default(inner):
        return items
    return [apply_defaults(inner, item) if isinstance(item, dict) else item for item in items]


def _has_default(properties: dict[str, Any]) -> bool:
    for field in properties.values():
        if not isinstance(field, dict):
            continue
        items = field.get("items")
        inner = items.get("properties") if isinstance(items, dict) else None
        if _default(field) is not _NONE or (isinstance(inner, dict) and _has_default(inner)):
            return True
    return False
