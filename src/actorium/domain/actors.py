"""The rules for Actors, versions and environment variables: names, numbers, options, sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.models import SourceFile
from actorium.domain.pricing import MAX_TIMEOUT_SECS, is_valid_memory

_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?")
_VERSION = re.compile(r"(?:[0-9]|[1-9][0-9])\.(?:[0-9]|[1-9][0-9])")
_BUILD_NUMBER = re.compile(r"\d{1,2}\.\d{1,2}\.\d{1,5}")
_TAG = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,28}[a-zA-Z0-9])?")
_GIT_URL = re.compile(r"(?:git|ssh|https?|git@[-\w.]+):(//)?(.*?)(/?|#[-\d\w._:/]+?)")
_GIST_URL = re.compile(r"https://gist\.github\.com/[^/]+/[0-9a-f]{32}", re.IGNORECASE)

MAX_SOURCE_BYTES = 3 * 1024 * 1024
"""Most bytes of the ``content`` texts of a version together. docs: MAX_MULTIFILE_BYTES."""
MAX_ACTORS = 500
MIN_NAME, MAX_NAME = 3, 63
MAX_ENV_VARS = 100
MAX_ENV_VALUE = 50_000
_MAX_PATH = 255

SOURCE_TYPES = ("SOURCE_FILES", "GIT_REPO", "TARBALL", "GITHUB_GIST")
URL_FIELDS = {"GIT_REPO": "gitRepoUrl", "TARBALL": "tarballUrl", "GITHUB_GIST": "gitHubGistUrl"}
PERMISSION_LEVELS = ("LIMITED_PERMISSIONS", "FULL_PERMISSIONS")

TEXT_FIELDS = ("title", "description", "seoTitle", "seoDescription", "readmeSummary", "pictureUrl", "notice")
FLAG_FIELDS = (
    "isPublic",
    "isDeprecated",
    "isCritical",
    "isGeneric",
    "isSourceCodeHidden",
    "hasNoDataset",
    "isAnonymouslyRunnable",
)

DEFAULT_RUN_OPTIONS: dict[str, Any] = {
    "build": "latest",
    "timeoutSecs": 3600,
    "memoryMbytes": 1024,
    "restartOnError": False,
}
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


def refused(message: str) -> ApiError:
    """400 ``schema-validation``."""
    return ApiError(ErrorType.SCHEMA_VALIDATION, message)


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


def check_version_number(number: object) -> str:
    """``MAJOR.MINOR``, each from 0 to 99."""
    if not isinstance(number, str) or not _VERSION.fullmatch(number):
        raise invalid(f"Field versionNumber must be MAJOR.MINOR with numbers from 0 to 99, got {str(number)[:30]!r}.")
    return number


def is_build_number(text: str) -> bool:
    """Whether ``text`` is a build number, not a tag."""
    return _BUILD_NUMBER.fullmatch(text) is not None


def check_tag(name: str, tag: object) -> str:
    """A build tag of at most 30 characters."""
    if not isinstance(tag, str) or not _TAG.fullmatch(tag):
        raise refused(
            f"Field {name} has an invalid value {str(tag)[:50]!r}: a tag has 1 to 30 letters, digits and -._."
        )
    return tag


def merge_run_options(current: dict[str, Any], given: object) -> dict[str, Any]:
    """``defaultRunOptions`` with the given keys over the current ones; ``null`` resets or clears a key."""
    merged = _merge_options("defaultRunOptions", _RUN_OPTIONS, current, given)
    return {**{key: DEFAULT_RUN_OPTIONS[key] for key in DEFAULT_RUN_OPTIONS.keys() - merged.keys()}, **merged}


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
    if isinstance(value, str) and (_BUILD_NUMBER.fullmatch(value) or _TAG.fullmatch(value)):
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
            raise invalid(f"Field actorStandby.{key} has an invalid value {value!r}.")
        merged[key] = value
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
            fields[key] = _typed(key, body[key], str, "a string")
    for key in FLAG_FIELDS:
        if key in body:
            fields[key] = _typed(key, body[key], bool, "a boolean")
    if "categories" in body:
        categories = _typed("categories", body["categories"], list, "a list of strings") or []
        if not all(isinstance(category, str) for category in categories):
            raise refused("Field categories must be a list of strings.")
        fields["categories"] = categories
    if "actorPermissionLevel" in body:
        if (problem := _bad_level(body["actorPermissionLevel"])) is not None:
            raise refused(f"Field actorPermissionLevel has an invalid value: {problem}")
        fields["actorPermissionLevel"] = body["actorPermissionLevel"]
    if body.get("exampleRunInput"):
        example = _object("exampleRunInput", body["exampleRunInput"])
        fields["exampleRunInput"] = {"body": example.get("body"), "contentType": example.get("contentType")}
    elif "exampleRunInput" in body and body["exampleRunInput"] is None:
        fields["exampleRunInput"] = None
    return fields


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


def check_source_files(value: object) -> tuple[SourceFile, ...]:
    """The files of a ``SOURCE_FILES`` version; of several with one name the last wins."""
    if not isinstance(value, list):
        raise refused("Field sourceFiles must be a list.")
    files: dict[str, SourceFile] = {}
    total = 0
    for position, item in enumerate(value):
        file = _source_file(position, item)
        files[file.name] = file
        total += len(file.content.encode("utf-8", "surrogatepass"))
    if total > MAX_SOURCE_BYTES:
        raise ApiError(
            ErrorType.REQUEST_TOO_LARGE,
            f"Field sourceFiles is too large: {total} bytes, the limit is {MAX_SOURCE_BYTES}. "
            "Use a version of type TARBALL or GIT_REPO.",
        )
    return tuple(files.values())


def _source_file(position: int, item: object) -> SourceFile:
    where = f"sourceFiles[{position}]"
    if not isinstance(item, dict) or not isinstance(item.get("name"), str) or not item["name"]:
        raise refused(f"Field {where}.name is required and must be a string.")
    name = item["name"]
    if len(name) > _MAX_PATH:
        raise refused(f"Field {where}.name is longer than {_MAX_PATH} characters.")
    parts = name.rstrip("/").split("/")
    if "\\" in name or "\0" in name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise refused(f"Field {where}.name has an invalid value {name!r}: it must be a relative path without '..'.")
    if item.get("folder"):
        return SourceFile(name, folder=True)
    file_format, content = item.get("format") or "TEXT", item.get("content") or ""
    if file_format not in ("TEXT", "BASE64") or not isinstance(content, str):
        raise refused(f"Field {where} needs a string content and format TEXT or BASE64.")
    return SourceFile(name, file_format, content)


def check_source_url(source_type: str, value: object) -> str:
    """The URL of a version whose sources are elsewhere."""
    field = URL_FIELDS[source_type]
    if not isinstance(value, str) or not value:
        raise refused(f"Field {field} is required for source type {source_type}.")
    bad_git = source_type == "GIT_REPO" and not _GIT_URL.fullmatch(value)
    bad_gist = source_type == "GITHUB_GIST" and not _GIST_URL.fullmatch(value)
    bad_tarball = source_type == "TARBALL" and not re.match(r"https?://", value)
    if bad_git or bad_gist or bad_tarball:
        raise refused(f"Field {field} has an invalid value {value[:200]!r}: it is no URL of this kind.")
    return value


class GivenEnvVar(msgspec.Struct, frozen=True):
    """A variable as a request gives it; ``None`` = not given."""

    name: str
    value: str | None
    is_secret: bool | None


def check_env_var(item: object, where: str = "") -> GivenEnvVar:
    """One environment variable of a request body."""
    if not isinstance(item, dict):
        raise refused(f"Field {where or 'body'} must be an object.")
    name, value, is_secret = item.get("name"), item.get("value"), item.get("isSecret")
    if not isinstance(name, str) or not 1 <= len(name) <= 100 or "=" in name or "\0" in name:
        raise refused(f"Field {where}name must have 1 to 100 characters and no '='.")
    if value is not None and (not isinstance(value, str) or len(value) > MAX_ENV_VALUE or "\0" in value):
        raise refused(f"Field {where}value must be a string of at most {MAX_ENV_VALUE} characters without NUL.")
    if is_secret is not None and not isinstance(is_secret, bool):
        raise refused(f"Field {where}isSecret must be a boolean.")
    return GivenEnvVar(name, value, is_secret)
