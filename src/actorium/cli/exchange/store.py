"""A folder, a Git repository or a bundled sample -> a public Actor of the store."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pathspec
import pyjson5

from actorium.cli.exchange.api import Api
from actorium.cli.exchange.exporting import Say
from actorium.cli.exchange.folder import FolderError
from actorium.domain.versions import MAX_SOURCE_BYTES

SAMPLES = ("python-counter", "javascript-counter")
_GIT = re.compile(r"(?:git|ssh|https?|file)://.+|git@[-\w.]+:.+")
_DROPPED = (".git", "node_modules", "__pycache__", ".venv", "storage", "apify_storage", "crawlee_storage")
_IGNORE_FILES = (".gitignore", ".actorignore")
_VERSION = "0.0"
_TAG = "latest"
_LAST_PART = re.compile(r"([^/:]+?)(?:\.git)?/*")


def import_into_store(target: Api, origin: str, name: str | None, category: str, say: Say) -> None:
    """Make or update the Actor, build it, and make it public. Raises ``FolderError``, ``ApifyApiError``.

    ``origin`` is a Git URL, a sample's name or a folder. What actor.json says of name, title and description counts
    where ``name`` is not given; of a repository it is only known after the build.
    """
    described: dict[str, Any] = {}
    if _GIT.fullmatch(origin):
        version: dict[str, Any] = {"sourceType": "GIT_REPO", "gitRepoUrl": origin}
        address, _, fragment = origin.partition("#")
        found = _LAST_PART.fullmatch((fragment.partition(":")[2] or address).rstrip("/").rpartition("/")[2])
        name = name or (found[1] if found else None)
    else:
        root = Path(str(files("actorium"))) / "samples" / origin if origin in SAMPLES else Path(origin)
        described = _definition(root)
        version = {"sourceType": "SOURCE_FILES", "sourceFiles": _source_files(root)}
        name = name or described.get("name") or root.resolve().name
    if not name:
        raise FolderError(f"Give the Actor a name with --name: {origin} has none.")
    actor_id = _put(target, str(name), {"buildTag": _TAG, **version})
    say(f"Building {target.username}/{name} from {origin.partition('#')[0].rpartition('@')[2]}")
    definition = _build(target, actor_id) or described
    title = definition.get("title") or name
    shown = {"title": title, "categories": [category], "isPublic": True}
    if definition.get("description"):
        shown["description"] = definition["description"]
    current = target.get(f"actors/{actor_id}")
    if current.get("categories"):
        del shown["categories"]
    target.send("PUT", f"actors/{actor_id}", shown)
    say(f"{title} is in the store: {target.username}/{name}")


def _put(target: Api, name: str, version: dict[str, Any]) -> str:
    found = target.find(f"actors/{target.username}~{name}")
    if found is None:
        made = target.send("POST", "actors", {"name": name, "versions": [{"versionNumber": _VERSION, **version}]})
        return str(made["id"])
    path = f"actors/{found['id']}/versions"
    if any(one["versionNumber"] == _VERSION for one in found["versions"]):
        target.send("PUT", f"{path}/{_VERSION}", version)
    else:
        target.send("POST", path, {"versionNumber": _VERSION, **version})
    return str(found["id"])


def _build(target: Api, actor_id: str) -> dict[str, Any] | None:
    """Build the Actor; returns its definition."""
    build = target.send("POST", f"actors/{actor_id}/builds", None, version=_VERSION, useCache=1)
    while build.get("finishedAt") is None:
        build = target.get(f"actor-builds/{build['id']}", waitForFinish=20)
    if build["status"] != "SUCCEEDED":
        raise FolderError(f"The build ended {build['status']}: see 'apify builds log {build['id']}'.")
    found: dict[str, Any] | None = build.get("actorDefinition")
    return found


def _definition(root: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise FolderError(f"{root} is no folder, no Git URL, and no sample ({', '.join(SAMPLES)}).")
    path = root / ".actor" / "actor.json"
    if not path.is_file():
        return {}
    try:
        value = pyjson5.decode(path.read_text())
    except (pyjson5.Json5Exception, UnicodeDecodeError) as error:
        raise FolderError(f"{path} cannot be read: {error}") from error
    return value if isinstance(value, dict) else {}


def _source_files(root: Path) -> list[dict[str, Any]]:
    """The files that ``apify push`` would send. docs: sources, what is left out."""
    found = []
    size = 0
    for name in _names(root):
        raw = (root / name).read_bytes()
        try:
            file = {"name": name, "format": "TEXT", "content": raw.decode()}
        except UnicodeDecodeError:
            file = {"name": name, "format": "BASE64", "content": base64.b64encode(raw).decode()}
        size += len(file["content"].encode())
        if size > MAX_SOURCE_BYTES:
            raise FolderError(f"{root} has more than {MAX_SOURCE_BYTES} bytes: put it into a Git repository.")
        found.append(file)
    if not found:
        raise FolderError(f"{root} has no files.")
    return found


def _names(root: Path) -> Iterator[str]:
    lines = [
        line for name in _IGNORE_FILES if (root / name).is_file() for line in (root / name).read_text().split("\n")
    ]
    ignored = pathspec.PathSpec.from_lines("gitignore", lines)
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(one for one in folders if one not in _DROPPED and not (Path(folder) / one).is_symlink())
        for name in sorted(names):
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            kept = relative.startswith(".actor/") or not ignored.match_file(relative)
            if kept and path.resolve().is_relative_to(root.resolve()):
                yield relative
