"""What a RUN line does, and what the native builder makes of each of its commands. Never a shell."""

from __future__ import annotations

import re
import shlex
from enum import Enum
from pathlib import PurePosixPath
from typing import Protocol

import msgspec

_PUNCTUATION = "();&|<>"
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_DOCKER = "Build with the Docker builder, or remove the step."

PACKAGE_MANAGERS = frozenset({"apk", "apt", "apt-get", "yum", "dnf"})
_POETRY_INSTALLS = frozenset({"install", "sync", "add", "update"})
_FREE_SUBCOMMANDS = frozenset({"update", "upgrade", "clean", "autoremove", "autoclean"})


class UnsupportedError(Exception):
    """A RUN line uses what the native builder does not do; ``remedy`` is the way out."""

    def __init__(self, reason: str, remedy: str = _DOCKER) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Kind(Enum):
    """What a command is to the builder."""

    PYTHON_DEPENDENCIES = "python dependencies"
    NODE_DEPENDENCIES = "node dependencies"
    PROGRAM = "program"
    INFORMATION = "information"
    """Only prints; its failure is not the build's."""
    SKIPPED = "skipped"
    ECHO = "echo"
    REMOVE = "remove"
    MAKE_FOLDERS = "make folders"


class Command(msgspec.Struct, frozen=True):
    """One command: its words, variables set before it, and what becomes of it. ``note`` goes to the log."""

    words: tuple[str, ...]
    env: dict[str, str]
    kind: Kind
    note: str = ""


class _As(Protocol):
    def __call__(self, kind: Kind, note: str = "") -> Command: ...


class Pipeline(msgspec.Struct, frozen=True):
    """Commands joined by ``|``."""

    commands: tuple[Command, ...]


class Chain(msgspec.Struct, frozen=True):
    """Parts and the operators between them: ``&&``, ``||`` or ``;`` before each part but the first."""

    parts: tuple[tuple[str, Pipeline | Chain], ...]


def parse_run(text: str) -> Chain:
    """A RUN's shell form as commands. Raises ``UnsupportedError``."""
    if "<<" in text:
        raise UnsupportedError("has a here-document, which the native builder does not run")
    if "`" in text or "$(" in text:
        raise UnsupportedError("uses command substitution, which the native builder does not run")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=_PUNCTUATION)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise UnsupportedError(f"has unbalanced quotes ({error})", "Correct the line.") from error
    parser = _Parser(tokens)
    chain = parser.chain()
    if not parser.at_end():
        raise UnsupportedError(f"has an unexpected {parser.peek()!r}", "Correct the line.")
    return chain


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens: list[str] = []
        for token in tokens:
            # Neighbouring punctuation comes as one token.
            is_punctuation = bool(token) and all(char in _PUNCTUATION for char in token)
            self._tokens += re.findall(r"&&|\|\||>>|[();&|<>]", token) if is_punctuation else [token]
        self._index = 0

    def at_end(self) -> bool:
        return self._index == len(self._tokens)

    def peek(self) -> str | None:
        return None if self.at_end() else self._tokens[self._index]

    def take(self) -> str:
        self._index += 1
        return self._tokens[self._index - 1]

    def chain(self) -> Chain:
        parts: list[tuple[str, Pipeline | Chain]] = [("", self.part())]
        while self.peek() in ("&&", "||", ";"):
            operator = self.take()
            if operator == ";" and (self.at_end() or self.peek() == ")"):
                break
            parts.append((operator, self.part()))
        return Chain(tuple(parts))

    def part(self) -> Pipeline | Chain:
        if self.peek() == "(":
            self.take()
            inner = self.chain()
            if self.at_end() or self.take() != ")":
                raise UnsupportedError("has an unclosed parenthesis", "Correct the line.")
            return inner
        commands = [self.command()]
        while self.peek() == "|":
            self.take()
            commands.append(self.command())
        return Pipeline(tuple(commands))

    def command(self) -> Command:
        words: list[str] = []
        while (token := self.peek()) is not None and token not in ("&&", "||", ";", "|", "(", ")"):
            if token in ("&", "<", ">", ">>"):
                raise UnsupportedError(f"uses {token!r} of the shell, which the native builder does not do")
            words.append(self.take())
        if not words:
            raise UnsupportedError("has an empty command", "Correct the line.")
        env = {}
        while words and _ASSIGNMENT.fullmatch(words[0]):
            name, _, value = words.pop(0).partition("=")
            env[name] = value
        if not words:
            raise UnsupportedError("only sets shell variables", "Use ENV.")
        return classify(words, env)


def classify(words: list[str], env: dict[str, str]) -> Command:
    """What becomes of one command. Raises ``UnsupportedError`` for everything that is not known."""
    program = PurePosixPath(words[0]).name
    rest = words[1:]

    def as_(kind: Kind, note: str = "") -> Command:
        return Command((program, *rest), env, kind, note)

    if program in PACKAGE_MANAGERS:
        return as_(Kind.SKIPPED, _system_packages(program, rest))
    match program:
        case "npm":
            return _npm(rest, as_)
        case "pnpm" | "yarn" | "bun":
            return _other_node_manager(program, rest, as_)
        case "npx":
            return _npx(rest, as_)
        case "tsc":
            return as_(Kind.PROGRAM)
        case "node":
            return _node(rest, as_)
        case "pip" | "pip3":
            return _pip(rest, env)
        case "uv":
            return _uv(rest, env, as_)
        case "poetry":
            return _poetry(rest, env, as_)
        case "python" | "python3":
            return _python(rest, env, as_)
        case "playwright":
            return as_(Kind.SKIPPED, "browsers are not downloaded by the native builder")
        case "corepack":
            return as_(Kind.SKIPPED, "the machine's own package managers are used")
        case "echo" | "true" | ":":
            return as_(Kind.ECHO)
        case "rm":
            return _rm(rest, as_)
        case "mkdir":
            return as_(Kind.MAKE_FOLDERS)
        case "sh" | "bash":
            raise UnsupportedError(f"uses {program}, but the native builder runs no shell")
        case "curl" | "wget" | "git":
            raise UnsupportedError(f"uses {program}, which the native builder does not run")
    raise UnsupportedError(f"uses {program!r}, which the native builder does not run")


def _system_packages(program: str, rest: list[str]) -> str:
    named = [word for word in rest if not word.startswith("-")]
    packages = [word for word in named[1:] if not word.startswith("/")]
    if (named[:1] and named[0] in _FREE_SUBCOMMANDS) or not packages:
        return f"{program} is not run natively"
    return f"system packages are not installed natively; install them on this machine if needed: {', '.join(packages)}"


def _first(rest: list[str]) -> str:
    return next((word for word in rest if not word.startswith("-")), "")


def _npm(rest: list[str], as_: _As) -> Command:
    sub = _first(rest)
    if sub in ("install", "i", "ci", "clean-install", "add", "prune"):
        if {"--global", "-g"} & set(rest):
            raise UnsupportedError("installs npm packages globally, which the native builder does not do")
        return as_(Kind.NODE_DEPENDENCIES)
    if sub in ("run", "run-script", "pkg", "exec", "rebuild"):
        return as_(Kind.PROGRAM)
    if sub in ("set", "config", "cache"):
        return as_(Kind.SKIPPED, "npm's configuration and cache are the builder's own")
    if sub in ("ls", "list", "") or {"--version", "-v"} & set(rest):
        return as_(Kind.INFORMATION)
    raise UnsupportedError(f"uses 'npm {sub}', which the native builder does not run")


def _other_node_manager(program: str, rest: list[str], as_: _As) -> Command:
    sub = _first(rest)
    if sub in ("install", "i", "ci", "add") or (program == "yarn" and sub in ("", "workspaces")):
        return as_(Kind.NODE_DEPENDENCIES)
    if sub == "deploy":
        raise UnsupportedError(f"uses '{program} deploy', which the native builder does not run")
    if sub in ("config", "set", "cache", "store"):
        return as_(Kind.SKIPPED, f"{program}'s configuration and cache are the builder's own")
    if {"--version", "-v"} & set(rest) or sub in ("list", "ls"):
        return as_(Kind.INFORMATION)
    return as_(Kind.PROGRAM)


def _npx(rest: list[str], as_: _As) -> Command:
    text = " ".join(rest)
    if "camoufox" in text:
        raise UnsupportedError("downloads a browser, which the native builder does not do")
    if "playwright" in text and "install" in text:
        return as_(Kind.SKIPPED, "browsers are not downloaded by the native builder")
    if _first(rest) == "tsc":
        return as_(Kind.PROGRAM)
    raise UnsupportedError(f"uses 'npx {_first(rest)}', which the native builder does not run")


def _node(rest: list[str], as_: _As) -> Command:
    if set(rest) <= {"--version", "-v"}:
        return as_(Kind.INFORMATION)
    if re.fullmatch(r"check-\w+-version\.mjs", _first(rest)):
        return as_(Kind.SKIPPED, "the script is part of the base image")
    raise UnsupportedError("runs a Node.js script, which the native builder does not do")


_DROPPED_PIP_FLAGS = re.compile(
    r"--(no-cache-dir|disable-pip-version-check|quiet|no-warn-script-location|user|root-user-action(=.*)?|"
    r"progress-bar(=.*)?|break-system-packages|no-input)|-q+"
)

_UV_FLAGS = {"--no-dependencies": "--no-deps", "--requirement": "-r", "--constraint": "-c"}


def _pip(rest: list[str], env: dict[str, str]) -> Command:
    sub = _first(rest)
    if sub == "install":
        kept = [_UV_FLAGS.get(word, word) for word in rest if not _DROPPED_PIP_FLAGS.fullmatch(word)]
        _refuse_editable(kept)
        return Command(("uv", "pip", *kept), env, Kind.PYTHON_DEPENDENCIES)
    if sub in ("freeze", "list", "show", "check"):
        return Command(("uv", "pip", sub), env, Kind.INFORMATION)
    if sub in ("", "config", "cache") or "--version" in rest:
        return Command(("uv", "--version"), env, Kind.INFORMATION)
    raise UnsupportedError(f"uses 'pip {sub}', which the native builder does not run")


def _refuse_editable(words: list[str]) -> None:
    if any(word in ("-e", "--editable") or word.startswith("--editable=") for word in words):
        raise UnsupportedError(
            "installs a package editable, but its folder changes after the build", "Install it plainly."
        )


def _uv(rest: list[str], env: dict[str, str], as_: _As) -> Command:
    if rest[:2] == ["pip", "install"]:
        kept = [word for word in rest if word != "--system" and not _DROPPED_PIP_FLAGS.fullmatch(word)]
        _refuse_editable(kept)
        return Command(("uv", *kept), env, Kind.PYTHON_DEPENDENCIES)
    if rest[:1] == ["sync"]:
        return Command(("uv", *rest, "--no-editable"), env, Kind.PYTHON_DEPENDENCIES)
    if rest[:1] == ["pip"] or "--version" in rest:
        return as_(Kind.INFORMATION)
    raise UnsupportedError(f"uses 'uv {_first(rest)}', which the native builder does not run")


def _poetry(rest: list[str], env: dict[str, str], as_: _As) -> Command:
    if rest[:2] == ["self", "add"]:
        # Poetry is a package of the same environment; its own way asks for a lock file it may not write.
        return Command(("uv", "pip", "install", *rest[2:]), env, Kind.PYTHON_DEPENDENCIES)
    if "--version" in rest:
        return as_(Kind.INFORMATION)
    return as_(Kind.PYTHON_DEPENDENCIES if _first(rest) in _POETRY_INSTALLS else Kind.PROGRAM)


def _python(rest: list[str], env: dict[str, str], as_: _As) -> Command:
    if rest[:1] == ["-m"] and len(rest) > 1:
        match rest[1]:
            case "pip":
                return _pip(rest[2:], env)
            case "compileall":
                return as_(Kind.INFORMATION)
            case "playwright":
                return as_(Kind.SKIPPED, "browsers are not downloaded by the native builder")
            case "camoufox":
                raise UnsupportedError("downloads a browser, which the native builder does not do")
    if set(rest) <= {"--version", "-V"}:
        return as_(Kind.INFORMATION)
    raise UnsupportedError("runs a Python program, which the native builder does not do")


def _rm(rest: list[str], as_: _As) -> Command:
    targets = [word for word in rest if not word.startswith("-")]
    if targets and all(word.startswith(("~", "$HOME", "/root/.", "/home/myuser/.")) for word in targets):
        return as_(Kind.SKIPPED, "it would delete caches of the machine")
    if any(word.startswith(("/", "~")) or ".." in PurePosixPath(word).parts for word in targets):
        raise UnsupportedError("deletes outside the working directory, which the native builder does not do")
    return as_(Kind.REMOVE)
