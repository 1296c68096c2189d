"""The rules for Actors: names, options, Standby, what describes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from actorium.domain.errors import ApiError, ErrorType, invalid, refused
from actorium.domain.permissions import PermissionLevel
from actorium.domain.pricing import MAX_TIMEOUT_SECS, is_valid_memory
from actorium.domain.versions import is_build_number, is_tag

_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?")

MAX_ACTORS = 500
MIN_NAME, MAX_NAME = 3, 63

PERMISSION_LEVELS = tuple(level.value for level in PermissionLevel)

NOTICES = ("NONE", "RESIDENTIAL_PROXY_REQUIRED", "UNDER_MAINTENANCE")
CATEGORIES = (
    "AI",
    "AGENTS",
    "AUTOMATION",
    "BUSINESS",
    "COVID_19",
    "DEVELOPER_EXAMPLES",
    "DEVELOPER_TOOLS",
    "ECOMMERCE",
    "EDUCATION",
    "FOR_CREATORS",
    "GAMES",
    "INTEGRATIONS",
    "JOBS",
    "LEAD_GENERATION",
    "MARKETING",
    "MCP_SERVERS",
    "NEWS",
    "OPEN_SOURCE",
    "OTHER",
    "REAL_ESTATE",
    "SEO_TOOLS",
    "SOCIAL_MEDIA",
    "SPORTS",
    "TRAVEL",
    "VIDEOS",
)
"""docs: ACTOR_CATEGORIES."""
TEXT_FIELDS = ("title", "description", "seoTitle", "seoDescription", "readmeSummary", "pictureUrl", "notice")
MAX_TEXTS = {"title": 63, "description": 300, "seoTitle": 60, "seoDescription": 200}
"""Characters. docs: apify-mcp-server, limits of the platform's Actor schema."""
MAX_CATEGORIES = 3
FLAG_FIELDS = (
    "isPublic",
    "isDeprecated",
    "isCritical",
    "isGeneric",
    "isSourceCodeHidden",
    "hasNoDataset",
    "isAnonymouslyRunnable",
)

DEFAULT_STANDBY: dict[str, Any] = {
    "isEnabled": False,
    "disableStandbyFieldsOverride": False,
    "tenancy": "SINGLE_TENANT",
    "desiredRequestsPerActorRun": 3,
    "maxRequestsPerActorRun": 4,
    "idleTimeoutSecs": 300,
    "build": "latest",
    "memoryMbytes": 1024,
    "shouldPassActorInput": False,
}
_STANDBY_DROPPED = ("isConsoleAuthEnabled", "isTokenlessEnabled")


def check_name(name: object) -> str:
    """A name of an Actor or task, of 3 to 63 letters, digits and inner hyphens."""
    if not isinstance(name, str):
        raise invalid("Field name is required and must be a string.")
    if not MIN_NAME <= len(name) <= MAX_NAME or not _NAME.fullmatch(name):
        raise refused(
            f"Field name has an invalid value {name[:80]!r}: a name has {MIN_NAME} to {MAX_NAME} letters, digits and "
            "hyphens, with hyphens only in the middle."
        )
    return name


def merge_run_options(current: dict[str, Any], given: object) -> dict[str, Any]:
    """``defaultRunOptions`` with the given keys over the current ones; ``null`` clears a key."""
    return _merge_options("defaultRunOptions", _RUN_OPTIONS, current, given)


def merge_task_options(current: dict[str, Any], given: object) -> dict[str, Any]:
    """A task's ``options`` with the given keys over the current ones; ``null`` clears a key."""
    checks = {key: check for key, check in _RUN_OPTIONS.items() if key != "forcePermissionLevel"}
    return _merge_options("options", checks, current, given)


def _merge_options(
    field: str, checks: Mapping[str, Callable[[Any], str | None]], current: dict[str, Any], given: object
) -> dict[str, Any]:
    merged = dict(current)
    for key, value in _object(field, given).items():
        if key == "isMaxTotalChargeUsdSetByUser":
            continue
        check = checks.get(key)
        if check is None:
            raise refused(f"Field {field}.{key} is not allowed by the schema.")
        if value is None:
            merged.pop(key, None)
            continue
        problem = check(value)
        if problem is not None:
            raise refused(f"Field {field}.{key} has an invalid value {value!r:.80}: {problem}")
        merged[key] = value
    return merged


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad_build(value: Any) -> str | None:
    if isinstance(value, str) and (is_build_number(value) or is_tag(value)):
        return None
    return 'This value must be either a build tag or number, e.g. "latest" or "1.2.34".'


def _bad_memory(value: Any) -> str | None:
    if _is_int(value) and is_valid_memory(value):
        return None
    return "Memory needs to be a power of two, like 512, 1024, 2048, 4096, etc., from 128 to 32768."


def _bad_timeout(value: Any) -> str | None:
    if _is_int(value) and 0 <= value <= MAX_TIMEOUT_SECS:
        return None
    return f"It must be a whole number of seconds from 0 (none) to {MAX_TIMEOUT_SECS}."


def _bad_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "It must be a boolean."


def _bad_count(value: Any) -> str | None:
    return None if _is_int(value) and value >= 0 else "It must be a whole number of at least 0."


def _bad_amount(value: Any) -> str | None:
    good = (_is_int(value) or isinstance(value, float)) and value >= 0
    return None if good else "It must be a number of at least 0."


def _bad_level(value: Any) -> str | None:
    return None if value in PERMISSION_LEVELS else f"It must be one of {', '.join(PERMISSION_LEVELS)}."


_RUN_OPTIONS = {
    "build": _bad_build,
    "memoryMbytes": _bad_memory,
    "timeoutSecs": _bad_timeout,
    "restartOnError": _bad_flag,
    "maxItems": _bad_count,
    "maxTotalChargeUsd": _bad_amount,
    "forcePermissionLevel": _bad_level,
}
RUN_OPTION_KEYS = tuple(_RUN_OPTIONS)
"""What ``defaultRunOptions`` may have."""


def merge_standby(current: dict[str, Any], given: object) -> dict[str, Any]:
    """``actorStandby`` with the given keys over the current ones. docs: standby."""
    merged = dict(current)
    for key, value in _object("actorStandby", given).items():
        if key in _STANDBY_DROPPED:
            continue
        default = DEFAULT_STANDBY.get(key)
        if default is None:
            raise invalid(f"Field actorStandby.{key} is not allowed by the schema.")
        if value is None:
            merged[key] = default
            continue
        if type(value) is not type(default):
            kind = {bool: "a boolean", int: "a whole number", str: "a string"}[type(default)]
            raise invalid(f"Field actorStandby.{key} has an invalid value {value!r:.80}: it must be {kind}.")
        merged[key] = value
    if merged["desiredRequestsPerActorRun"] < 1:
        raise invalid("Field actorStandby.desiredRequestsPerActorRun must be at least 1.")
    if (problem := _bad_build(merged["build"])) is not None:
        raise invalid(f"Field actorStandby.build has an invalid value {merged['build']!r:.80}: {problem}")
    if merged["maxRequestsPerActorRun"] < merged["desiredRequestsPerActorRun"]:
        raise invalid("Max requests must be greater than or equal to desired requests.")
    if merged["idleTimeoutSecs"] < 5:
        raise invalid("Field actorStandby.idleTimeoutSecs must be at least 5.")
    if (problem := _bad_memory(merged["memoryMbytes"])) is not None:
        raise invalid(f"Field actorStandby.memoryMbytes has an invalid value: {problem}")
    return merged


def check_descriptive(body: dict[str, Any]) -> dict[str, Any]:
    """The descriptive fields of an Actor that ``body`` sets, checked."""
    fields: dict[str, Any] = {}
    for key in TEXT_FIELDS:
        if key in body:
            fields[key] = check_length(key, _typed(key, body[key], str, "a string"), MAX_TEXTS.get(key))
    for key in FLAG_FIELDS:
        if key in body:
            fields[key] = _typed(key, body[key], bool, "a boolean")
    if "categories" in body:
        categories = _typed("categories", body["categories"], list, "a list of strings") or []
        for category in categories:
            _check_choice("categories", category, CATEGORIES)
        if len(set(categories)) > MAX_CATEGORIES:
            raise refused(f"Field categories can have at most {MAX_CATEGORIES} categories, got {len(categories)}.")
        fields["categories"] = categories
    if fields.get("notice") is not None:
        _check_choice("notice", fields["notice"], NOTICES)
    if fields.get("pictureUrl") is not None and not is_url(fields["pictureUrl"]):
        raise ApiError(
            ErrorType.INVALID_PICTURE_URL,
            f"Field pictureUrl has an invalid value {fields['pictureUrl']!r:.200}: it must be an http or https URL.",
        )
    if body.get("actorPermissionLevel") is not None:
        _check_choice("actorPermissionLevel", body["actorPermissionLevel"], PERMISSION_LEVELS)
        fields["actorPermissionLevel"] = body["actorPermissionLevel"]
    if body.get("exampleRunInput"):
        example = _object("exampleRunInput", body["exampleRunInput"])
        fields["exampleRunInput"] = {
            key: _typed(f"exampleRunInput.{key}", example.get(key), str, "a string") or ""
            for key in ("body", "contentType")
        }
    elif "exampleRunInput" in body and body["exampleRunInput"] is None:
        fields["exampleRunInput"] = None
    return fields


def check_publishable(fields: dict[str, Any]) -> None:
    """Refuse to make an Actor public that the store could not show."""
    missing = [name for name in ("title", "categories") if not fields.get(name)]
    if fields.get("isPublic") and missing:
        raise ApiError(
            ErrorType.CANNOT_PUBLISH_ACTOR,
            f"A public Actor needs a title and at least one category: field {missing[0]} is empty.",
        )


def check_length(key: str, text: str | None, most: int | None) -> str | None:
    """``text``, which is at most ``most`` characters long. Raises 400 ``schema-validation``."""
    if text is not None and most is not None and len(text) > most:
        raise refused(f"Field {key} can have at most {most} characters, got {len(text)}.")
    return text


def is_url(text: str) -> bool:
    """Whether ``text`` is an http or https URL with a host."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, text))


def _check_choice(field: str, value: object, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise refused(f"Field {field} has an invalid value {value!r:.80}: it must be one of {', '.join(allowed)}.")


def _typed(key: str, value: Any, kind: type, words: str) -> Any:
    if value is not None and not isinstance(value, kind):
        raise refused(f"Field {key} must be {words} or null, got {value!r:.80}.")
    return value


def _object(name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refused(f"Field {name} must be an object.")
    return value
