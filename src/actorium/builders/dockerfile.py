"""Dockerfiles as instructions with their lines, and the variables in them."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterable, Mapping

import msgspec
from dockerfile_parse import DockerfileParser

from actorium.builders import BuildFailed

_DEFAULT_NODE = """FROM apify/actor-node:24
COPY package*.json ./
RUN npm install --omit=dev --omit=optional
COPY . ./
"""
_DEFAULT_REQUIREMENTS = """FROM apify/actor-python:3.13
COPY requirements.txt ./
RUN pip install -r requirements.txt
COPY . ./
"""
_DEFAULT_PROJECT = """FROM apify/actor-python:3.13
COPY . ./
RUN pip install .
"""
_VARIABLE = re.compile(r"\\\$|\$\{(\w+)(?::([-+])([^}]*))?\}|\$(\w+)")
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S*))?\s+")


class Instruction(msgspec.Struct, frozen=True):
    """One instruction. ``flags`` are its leading ``--name=value``; ``value`` is the rest.

    ``mounts`` are the options of each ``--mount``.
    """

    file: str
    line: int
    name: str
    value: str
    flags: dict[str, str]
    mounts: tuple[dict[str, str], ...] = ()

    def refuse(self, reason: str, remedy: str) -> BuildFailed:
        """The failure that names file, line, instruction and remedy."""
        return BuildFailed(f"{self.file} line {self.line}: {self.name} {reason}. {remedy}")


def default_dockerfile(files: Iterable[str]) -> str:
    """What is built where the sources have no Dockerfile, given the ``files`` of the context."""
    names = set(files)
    if "package.json" not in names and names & {"requirements.txt", "pyproject.toml"}:
        return _DEFAULT_REQUIREMENTS if "requirements.txt" in names else _DEFAULT_PROJECT
    return _DEFAULT_NODE


def parse_dockerfile(text: str, file: str) -> list[Instruction]:
    """The instructions of a Dockerfile, comments left out, continued lines joined."""
    parser = DockerfileParser(fileobj=io.BytesIO(text.encode()))
    found = []
    for entry in parser.structure:
        name, value, flags = entry["instruction"].upper(), entry["value"], {}
        mounts = []
        if name == "COMMENT":
            continue
        while match := _FLAG.match(value):
            if match[1] == "mount":
                mounts.append(_options(match[2] or ""))
            flags[match[1]] = match[2] or ""
            value = value[match.end() :]
        found.append(Instruction(file, entry["startline"] + 1, name, value.strip(), flags, tuple(mounts)))
    return found


def _options(text: str) -> dict[str, str]:
    """``type=bind,source=a`` as a dictionary."""
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: value for name, _, value in pairs}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """``text`` with ``$NAME``, ``${NAME}``, ``${NAME:-default}`` and ``${NAME:+text}`` replaced."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "\\$":
            return "$"
        found = variables.get(match[1] or match[4], "")
        if match[2] == "-":
            return found or match[3]
        if match[2] == "+":
            return match[3] if found else ""
        return found

    return _VARIABLE.sub(value, text)


def exec_form(value: str) -> list[str] | None:
    """The words of a JSON array form, ``None`` when it is the shell form."""
    if not value.lstrip().startswith("["):
        return None
    try:
        return msgspec.json.decode(value, type=list[str])
    except msgspec.DecodeError:
        return None


def assignments(instruction: Instruction, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of an ENV, both ``NAME=value ...`` and ``NAME value``."""
    try:
        words = shlex.split(instruction.value)
    except ValueError as error:
        raise instruction.refuse(f"has unbalanced quotes ({error})", "Correct the line.") from error
    if words and "=" not in words[0]:
        name, _, rest = instruction.value.partition(" ")
        return {name: expand(rest.strip(), variables)}
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise instruction.refuse(f"has no value for {name}", "Write NAME=value.")
        found[name] = expand(value, variables)
    return found
