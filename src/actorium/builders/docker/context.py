"""The build context as a tar file, with the Dockerfile the engine is to follow."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import msgspec

from actorium.builders.context import IGNORE_FILE, Context
from actorium.builders.definition import Definition
from actorium.builders.dockerfile import default_dockerfile

_OUTSIDE = ".actorium.Dockerfile"
_FROM = re.compile(r"^(\s*FROM\s+(?:--\S+\s+)*)(\S+)(.*)$", re.IGNORECASE)
_STAGE = re.compile(r"\s+AS\s+(\S+)", re.IGNORECASE)
_COPY_FROM = re.compile(r"^(\s*COPY\s+(?:--\S+\s+)*?--from=)(\S+)(.*)$", re.IGNORECASE)


class DockerContext(msgspec.Struct, frozen=True):
    """A written context. ``dockerfile`` is a path in it."""

    archive: Path
    dockerfile: str
    definition: Definition


def write_context(definition: Definition, archive: Path, prefix: str) -> DockerContext:
    """Write everything that ``.dockerignore`` does not leave out, and always the Dockerfile and ``.dockerignore``.

    A Dockerfile outside the context is put into it under another name and,
    like one that ``.dockerignore`` names, kept out of the image by the engine.
    """
    folder = definition.context.resolve()
    context = Context(folder)
    files = context.files()
    path = definition.dockerfile
    if path is None:
        text, name = default_dockerfile(files), _OUTSIDE
    else:
        text = path.read_text("utf-8", "replace")
        inside = path.resolve().is_relative_to(folder)
        name = path.resolve().relative_to(folder).as_posix() if inside else _OUTSIDE
    replaced = {name: prefixed(text, prefix).encode()}
    ignored = folder / IGNORE_FILE
    if name == _OUTSIDE:
        rules = ignored.read_bytes() + b"\n" if ignored.is_file() else f"{IGNORE_FILE}\n".encode()
        replaced[IGNORE_FILE] = rules + f"{_OUTSIDE}\n".encode()
    elif ignored.is_file():
        replaced[IGNORE_FILE] = ignored.read_bytes()
    with tarfile.open(archive, "w") as tar:
        for file in files:
            if file not in replaced:
                tar.add(folder / file, file, recursive=False, filter=_anonymous)
        for file, content in replaced.items():
            entry = tarfile.TarInfo(file)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return DockerContext(archive, name, definition)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def prefixed(text: str, prefix: str) -> str:
    """A Dockerfile with ``prefix`` before the images that name no registry, stages and variables left alone."""
    if not prefix:
        return text
    stages = {"scratch"}

    def image(name: str) -> str:
        registry, slash, _ = name.partition("/")
        names_registry = slash and ("." in registry or ":" in registry or registry == "localhost")
        if names_registry or "$" in name or name.lower() in stages or name.isdigit():
            return name
        return f"{prefix.rstrip('/')}/{name}"

    lines = []
    for line in text.splitlines(keepends=True):
        body = line.rstrip("\r\n")
        if (match := _FROM.match(body)) is not None:
            body = f"{match[1]}{image(match[2])}{match[3]}"
            if (stage := _STAGE.match(match[3])) is not None:
                stages.add(stage[1].lower())
        elif (match := _COPY_FROM.match(body)) is not None:
            body = f"{match[1]}{image(match[2])}{match[3]}"
        lines.append(body + line[len(line.rstrip("\r\n")) :])
    return "".join(lines)
