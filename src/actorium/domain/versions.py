"""The rules for versions, their sources and environment variables, for build numbers and tags."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec
import pyjson5

from actorium.domain.errors import ApiError, ErrorType, invalid, refused
from actorium.domain.models import SourceFile, Version

_VERSION = re.compile(r"(?:[0-9]|[1-9][0-9])\.(?:[0-9]|[1-9][0-9])")
_BUILD_NUMBER = re.compile(r"\d{1,2}\.\d{1,2}\.\d{1,5}")
_TAG = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,28}[a-zA-Z0-9])?")
# The first part is stricter than the platform's, which lets "https:" be followed by anything; file: is an addition.
_GIT_URL = re.compile(r"(?:(?:git|ssh|https?)://[^/]|git@[-\w.]+:[^:]|file:///[^/]).*?(/?|#[-\d\w._:/]+?)")
_GIST_URL = re.compile(r"https://gist\.github\.com/[^/]+/[0-9a-f]{32}", re.IGNORECASE)

MAX_SOURCE_BYTES = 3 * 1024 * 1024
"""Most bytes of the ``content`` texts of a version together. docs: MAX_MULTIFILE_BYTES."""
MAX_VERSIONS = 100
MAX_VERSIONS_BYTES = 32 * 1024 * 1024
"""Most bytes of the ``content`` texts of all versions of an Actor, as they are all part of the Actor's answer."""
MAX_ENV_VARS = 100
MAX_ENV_VALUE = 50_000
_MAX_PATH = 255

SOURCE_TYPES = ("SOURCE_FILES", "GIT_REPO", "TARBALL", "GITHUB_GIST")
URL_FIELDS = {"GIT_REPO": "gitRepoUrl", "TARBALL": "tarballUrl", "GITHUB_GIST": "gitHubGistUrl"}


def check_version_number(number: object) -> str:
    """``MAJOR.MINOR``, each from 0 to 99."""
    if not isinstance(number, str) or not _VERSION.fullmatch(number):
        raise invalid(f"Field versionNumber must be MAJOR.MINOR with numbers from 0 to 99, got {str(number)[:30]!r}.")
    return number


def is_build_number(text: str) -> bool:
    """Whether ``text`` is a build number, not a tag."""
    return _BUILD_NUMBER.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether ``text`` may be a tag of a build."""
    return _TAG.fullmatch(text) is not None


def check_tag(name: str, tag: object) -> str:
    """A build tag of at most 30 characters."""
    if not isinstance(tag, str) or not is_tag(tag):
        raise refused(
            f"Field {name} has an invalid value {str(tag)[:50]!r}: a tag has 1 to 30 letters, digits and -._."
        )
    return tag


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


def check_versions_size(versions: Collection[Version]) -> None:
    """Refuse more versions than an Actor may have, or larger ones."""
    if len(versions) > MAX_VERSIONS:
        raise ApiError(
            ErrorType.TOO_MANY_VERSIONS, f"An Actor cannot have more than {MAX_VERSIONS} versions, not {len(versions)}."
        )
    size = sum(len(file.content.encode("utf-8", "surrogatepass")) for item in versions for file in item.source_files)
    if size > MAX_VERSIONS_BYTES:
        raise ApiError(
            ErrorType.VERSIONS_SIZE_EXCEEDED,
            "The limit on the combined size of all versions has been exceeded: "
            f"{size} bytes, the limit is {MAX_VERSIONS_BYTES}.",
        )


def actor_json_of(files: Collection[SourceFile]) -> tuple[SourceFile, dict[str, Any]] | None:
    """The file ``.actor/actor.json`` among ``files`` with what it says; ``None`` where it is absent or unreadable."""
    for file in files:
        if file.name == ".actor/actor.json" and file.format == "TEXT" and not file.folder:
            try:
                value = pyjson5.decode(file.content)
            except (pyjson5.Json5Exception, RecursionError):
                return None
            return (file, value) if isinstance(value, dict) else None
    return None


def with_actor_name(files: tuple[SourceFile, ...], name: str) -> tuple[SourceFile, ...]:
    """``files`` with the Actor's own name in ``.actor/actor.json``, as the platform writes it into a new Actor's."""
    found = actor_json_of(files)
    if found is None or found[1].get("name") == name:
        return files
    file, definition = found
    text = msgspec.json.format(msgspec.json.encode({**definition, "name": name}), indent=4).decode()
    return tuple(msgspec.structs.replace(file, content=text) if item is file else item for item in files)


def uses_standby(files: Collection[SourceFile]) -> bool:
    """Whether ``.actor/actor.json`` asks for Standby."""
    found = actor_json_of(files)
    return found is not None and found[1].get("usesStandbyMode") is True


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
