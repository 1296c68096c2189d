"""The build context as a tar file, with the Dockerfile the engine is to follow."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from actorium.builders.context import IGNORE_FILE, Context
from actorium.builders.definition import Definition
from actorium.builders.dockerfile import default_dockerfile, expand, parse_dockerfile

_OUTSIDE = ".actorium.Dockerfile"
_FROM = re.compile(r"^(\s*FROM\s+(?:--\S+\s+)*)(\S+)(.*)$", re.IGNORECASE)
_SYNTAX = re.compile(r"^(#\s*syntax\s*=\s*)(\S+)(.*)$", re.IGNORECASE)
_STAGE = re.compile(r"\s+AS\s+(\S+)", re.IGNORECASE)
_COPY_FROM = re.compile(r"^(\s*COPY\s+(?:--\S+\s+)*?--from=)(\S+)(.*)$", re.IGNORECASE)


class DockerContext(msgspec.Struct, frozen=True):
    """A written context. ``dockerfile`` is a path in it, ``text`` what it holds."""

    archive: Path
    dockerfile: str
    text: str
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
    text = prefixed(text, prefix)
    replaced = {name: text.encode()}
    ignored = folder / IGNORE_FILE
    if name == _OUTSIDE:
        rules = ignored.read_bytes() + b"\n" if ignored.is_file() else f"{IGNORE_FILE}\n".encode()
        replaced[IGNORE_FILE] = rules + f"{_OUTSIDE}\n".encode()
    elif ignored.is_file():
        replaced[IGNORE_FILE] = ignored.read_bytes()
    with tarfile.open(archive, "w") as tar:
        # BuildKit looks at 1 KB to tell a context from a Dockerfile: too little for a first entry with a long name.
        tar.addfile(_folder("."))
        for file in files:
            if file not in replaced:
                tar.add(folder / file, file, recursive=False, filter=_anonymous)
        for file, content in replaced.items():
            entry = tarfile.TarInfo(file)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return DockerContext(archive, name, text, definition)


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


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
        elif (match := _COPY_FROM.match(body) or _SYNTAX.match(body)) is not None:
            body = f"{match[1]}{image(match[2])}{match[3]}"
        lines.append(body + line[len(line.rstrip("\r\n")) :])
    return "".join(lines)


def base_images(text: str, build_args: Mapping[str, str]) -> list[str]:
    """The images that a Dockerfile starts from or copies from, each once; stages and ``scratch`` are none."""
    variables: dict[str, str] = {}
    stages = {"scratch"}
    found: list[str] = []
    for instruction in parse_dockerfile(text, "Dockerfile"):
        image = ""
        if instruction.name == "ARG" and not found:
            name, _, default = instruction.value.partition("=")
            variables[name] = build_args.get(name, default.strip("\"'"))
        elif instruction.name == "FROM":
            image, _, stage = expand(instruction.value, variables).partition(" ")
        elif instruction.name == "COPY":
            image = instruction.flags.get("from", "")
        if image and image.lower() not in stages and not image.isdigit() and image not in found:
            found.append(image)
        if instruction.name == "FROM" and (match := _STAGE.match(f" {stage}")) is not None:
            stages.add(match[1].lower())
    return found
