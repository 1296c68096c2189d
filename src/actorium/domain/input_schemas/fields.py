"""What a field of an input schema may have, by its type and editor: the rules as tables of JSON schemas.

``definition_of`` gives the JSON schema of one field without its sub-fields, which are fields themselves.
Source: docs: input_schema, and the platform's own schema of input schemas.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

Schema = dict[str, Any]

_TYPES = ("object", "array", "string", "integer", "number", "boolean")
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer"}
_OBJECT: Schema = {"type": "object"}
_TEXTS: Schema = {"type": "array", "items": _TEXT, "minItems": 1}
_DIFFERENT_TEXTS: Schema = {**_TEXTS, "uniqueItems": True}
_NAMES: Schema = {"type": "array", "items": _TEXT, "uniqueItems": True}


def one_of(*values: object) -> Schema:
    """One of these values."""
    return {"enum": list(values)}


def closed(properties: Schema, required: Iterable[str] = ()) -> Schema:
    """An object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_ERROR_KEYWORDS = (
    "type",
    "pattern",
    "minLength",
    "maxLength",
    "enum",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "patternKey",
    "patternValue",
)
_COMMON: Schema = {
    "title": _TEXT,
    "description": _TEXT,
    "nullable": _FLAG,
    "errorMessage": closed(dict.fromkeys(_ERROR_KEYWORDS, _TEXT)),
}
_SECTIONS: Schema = {"sectionCaption": _TEXT, "sectionDescription": _TEXT}
_TEXT_LIMITS: Schema = {"pattern": _TEXT, "minLength": _COUNT, "maxLength": _COUNT}
_ARRAY_LIMITS: Schema = {"minItems": _COUNT, "maxItems": _COUNT, "uniqueItems": _FLAG}
_OBJECT_LIMITS: Schema = {"minProperties": _COUNT, "maxProperties": _COUNT}
_INNER: Schema = {"properties": _OBJECT, "required": _NAMES, "additionalProperties": _FLAG}
_KEY_VALUE_PATTERNS: Schema = {"patternKey": _TEXT, "patternValue": _TEXT}
_RESOURCE_TYPES = ("dataset", "keyValueStore", "requestQueue", "mcpConnector")
_PERMISSIONS: Schema = {
    "type": "array",
    "items": {"type": "string", "enum": ["READ", "WRITE"]},
    "minItems": 1,
    "uniqueItems": True,
    "contains": {"const": "READ"},
}
_MCP_TOOLS = closed(
    {
        "required": {**_DIFFERENT_TEXTS, "items": {"type": "string", "minLength": 1}},
        **dict.fromkeys(("readOnly", "destructive", "idempotent", "openWorld"), _FLAG),
    }
)
_MCP_SERVERS: Schema = {
    "type": "array",
    "items": closed({"url": {"type": "string", "minLength": 1}, "tools": _MCP_TOOLS}, ["url"]),
    "minItems": 1,
}


class Kind(msgspec.Struct, frozen=True):
    """The rules of one kind of field."""

    type: str
    editors: tuple[str, ...]
    keywords: Schema
    required: tuple[str, ...] = ()
    needs_editor: bool = False
    may_default: bool = True


_TEXT_EDITORS = ("javascript", "python", "textfield", "textarea", "datepicker", "select", "fileupload", "hidden")
_ARRAY_EDITORS = ("json", "requestListSources", "pseudoUrls", "globs", "keyValue", "stringList", "fileupload", "select")
_NUMBER_EDITORS = ("number", "hidden")

KINDS = {
    "string": Kind("string", _TEXT_EDITORS, _TEXT_LIMITS | {"isSecret": one_of(False)}, needs_editor=True),
    "enum": Kind("string", ("select",), {"enum": _DIFFERENT_TEXTS, "enumTitles": _TEXTS}, ("enum",)),
    "secret string": Kind(
        "string", ("textfield", "textarea", "hidden"), {"isSecret": _FLAG}, needs_editor=True, may_default=False
    ),
    "string resource": Kind(
        "string",
        ("resourcePicker", "textfield", "hidden"),
        {"resourceType": one_of(*_RESOURCE_TYPES), **_TEXT_LIMITS},
        ("resourceType",),
    ),
    "array": Kind(
        "array",
        (*_ARRAY_EDITORS, "schemaBased", "hidden"),
        {
            **_ARRAY_LIMITS,
            **_KEY_VALUE_PATTERNS,
            "placeholderKey": _TEXT,
            "placeholderValue": _TEXT,
            "isSecret": one_of(False),
        },
        needs_editor=True,
    ),
    "secret array": Kind(
        "array", ("json", "hidden"), {**_ARRAY_LIMITS, "isSecret": _FLAG}, needs_editor=True, may_default=False
    ),
    "array resource": Kind(
        "array",
        ("resourcePicker", "hidden"),
        {"resourceType": one_of(*_RESOURCE_TYPES), **_ARRAY_LIMITS},
        ("resourceType",),
    ),
    "object": Kind(
        "object",
        ("json", "proxy", "schemaBased", "hidden"),
        {**_INNER, **_OBJECT_LIMITS, **_KEY_VALUE_PATTERNS, "isSecret": one_of(False)},
        needs_editor=True,
    ),
    "secret object": Kind(
        "object",
        ("json", "hidden"),
        {**_INNER, **_OBJECT_LIMITS, "isSecret": _FLAG},
        needs_editor=True,
        may_default=False,
    ),
    "integer": Kind("integer", _NUMBER_EDITORS, {"minimum": _COUNT, "maximum": _COUNT, "unit": _TEXT}),
    "number": Kind(
        "number", _NUMBER_EDITORS, {"minimum": {"type": "number"}, "maximum": {"type": "number"}, "unit": _TEXT}
    ),
    "boolean": Kind("boolean", ("checkbox", "hidden"), {"groupCaption": _TEXT, "groupDescription": _TEXT}),
}
ANY = Kind("any", ("json", "hidden"), {}, needs_editor=True)
_ANY_TYPE: Schema = {
    "type": "array",
    "items": {"type": "string", "enum": list(_TYPES)},
    "uniqueItems": True,
    "minItems": 1,
}


def kind_of_field(field: Schema, *, is_sub: bool) -> Kind | None:
    """The kind a field is of; ``None`` when its type is none. docs: input_schema, field types."""
    type_ = field.get("type")
    if isinstance(type_, list):
        return None if is_sub else ANY
    if not isinstance(type_, str) or type_ not in _TYPES:
        return None
    if type_ == "string" and field.get("enum"):
        return KINDS["enum"]
    if type_ in ("string", "array") and field.get("resourceType"):
        return KINDS[f"{type_} resource"]
    if field.get("isSecret") is True and not is_sub and f"secret {type_}" in KINDS:
        return KINDS[f"secret {type_}"]
    return KINDS[type_]


def definition_of(field: Schema, kind: Kind, *, is_sub: bool) -> Schema:
    """The JSON schema of ``field``, in which the conditions on its other keywords are already decided."""
    value: Schema = {"type": list(_TYPES) if kind is ANY else kind.type}
    keywords = {"type": _ANY_TYPE if kind is ANY else one_of(kind.type), **_COMMON, **kind.keywords}
    keywords |= {"editor": one_of(*kind.editors), "prefill": value, "example": value}
    if kind.may_default:
        nullable = field.get("nullable", False) is not False
        keywords["default"] = {"type": [*_listed(value["type"]), "null"]} if nullable else value
    required = ["type", "title", "description", *kind.required]
    if is_sub:
        keywords.pop("isSecret", None)
        keywords["editor"] = one_of(*(editor for editor in kind.editors if editor != "schemaBased"))
    else:
        keywords |= _SECTIONS
        required += ["editor"] if kind.needs_editor else []
    if "resourceType" in kind.required:
        required += _resource(field, keywords, is_sub=is_sub)
    elif kind is KINDS["string"]:
        required += _string(field, keywords)
    elif kind.type == "array":
        keywords["items"] = items_of(field.get("editor"), field.get("items"))
    elif kind.type == "object" and field.get("editor") == "proxy":
        keywords["properties"] = closed(_PROXY)
    return closed(keywords, required)


def _listed(types: str | list[str]) -> list[str]:
    return types if isinstance(types, list) else [types]


def _string(field: Schema, keywords: Schema) -> list[str]:
    editor = field.get("editor")
    if editor in (None, "datepicker"):
        keywords["dateType"] = one_of("absolute", "relative", "absoluteOrRelative")
    if editor == "select":
        keywords |= {"enumSuggestedValues": _DIFFERENT_TEXTS, "enumTitles": _TEXTS}
        return ["enumSuggestedValues"]
    return []


def _resource(field: Schema, keywords: Schema, *, is_sub: bool) -> list[str]:
    if field["resourceType"] == "mcpConnector":
        keywords["mcpServers"] = _MCP_SERVERS
        return ["mcpServers"]
    keywords["resourcePermissions"] = _PERMISSIONS
    if "resourcePermissions" in field and not is_sub:
        # What a run may touch beyond its own storages is for the user to choose, never for the Actor.
        del keywords["prefill"], keywords["default"]
    return []


_NOTE: Schema = {"title": _TEXT, "description": _TEXT}


def _part(type_: str, limits: Schema) -> Schema:
    return closed({"type": one_of(type_), **_NOTE, **limits}, ["type"])


_TEXT_PART = _part("string", _TEXT_LIMITS)
_OBJECT_PART = _part("object", {"properties": _OBJECT})
_TEXTS_PART = _part("array", {"items": closed({"type": one_of("string")}, ["type"])})
_PROXY: Schema = {
    "useApifyProxy": _part("boolean", {}),
    "apifyProxyGroups": _TEXTS_PART,
    "proxyUrls": _TEXTS_PART,
    "apifyProxyCountry": _TEXT_PART,
}


def _object_items(properties: Schema, required: Iterable[str], inner_required: Iterable[str] = ()) -> Schema:
    keywords = {**_INNER, "type": one_of("object"), "properties": closed(properties, inner_required)}
    return closed(keywords, required)


def _request_items(url: str) -> Schema:
    texts = dict.fromkeys((url, "method", "payload"), _TEXT_PART)
    return _object_items({**texts, **dict.fromkeys(("userData", "headers"), _OBJECT_PART)}, ["type"])


_TEXT_ITEMS = closed({"type": one_of("string"), **_TEXT_LIMITS}, ["type"])
_ITEMS: dict[object, Schema] = {
    "stringList": _TEXT_ITEMS,
    "fileupload": _TEXT_ITEMS,
    "keyValue": _object_items(dict.fromkeys(("key", "value"), _TEXT_PART), ["type", "properties"], ["key", "value"]),
    "globs": _request_items("glob"),
    "pseudoUrls": _request_items("purl"),
    "requestListSources": _request_items("url"),
}
_SELECT_ITEMS: Schema = {
    "type": one_of("string"),
    "enum": _NAMES,
    "enumTitles": {"type": "array", "items": _TEXT},
    "enumSuggestedValues": _DIFFERENT_TEXTS,
}
_ITEM_LIMITS: dict[object, Schema] = {
    "string": _TEXT_LIMITS,
    "integer": {"minimum": _COUNT, "maximum": _COUNT},
    "number": {"minimum": {"type": "number"}, "maximum": {"type": "number"}},
    "boolean": {},
    "object": _INNER,
}


def items_of(editor: object, items: object) -> Schema:
    """The JSON schema of the ``items`` of an array with this editor."""
    if editor == "select":
        suggests = isinstance(items, dict) and "enumSuggestedValues" in items
        return closed(_SELECT_ITEMS, ["type", "enumSuggestedValues" if suggests else "enum"])
    if editor in _ITEMS:
        return _ITEMS[editor]
    type_ = items.get("type") if isinstance(items, dict) else None
    if type_ == "array" and isinstance(items, dict):
        return closed({"type": one_of("array"), "items": items_of(None, items.get("items"))}, ["type"])
    limits = _ITEM_LIMITS.get(type_) if isinstance(type_, str) else None
    return closed({"type": one_of(*_TYPES), **(limits or {})}, ["type"])
