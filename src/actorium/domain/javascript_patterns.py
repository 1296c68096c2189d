"""Regular expressions of JavaScript, without the ``u`` flag, for the validator, which reads stricter ones.

Without that flag JavaScript takes many signs for themselves (``[\\w-.]``, ``a{,3}``, ``\\_``) that others refuse. Here
they are written so that every engine agrees. What is wrong in JavaScript too stays as it is, and is refused later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from actorium.domain.json_schemas import Validator, compile_schema

_TOKEN = re.compile(
    r"""
    \\(?P<escape> u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
                | u[0-9a-fA-F]{4} | x[0-9a-fA-F]{2} | c[A-Za-z] | k<[^>]*> | [0-9]+ | .)
    | \[(?P<negated>\^?)(?P<body>(?:\\.|[^\]\\])*)\]
    | (?P<quantifier>\{\d+(?:,\d*)?\})
    | \(\?<(?P<name>[^=!>][^>]*)>
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ATOM = re.compile(
    r"\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[A-Za-z]|.)|(.)",
    re.DOTALL,
)
_SETS = frozenset("dDwWsS")
_KEPT = _SETS | frozenset("bBnrtvf")
_SYNTAX = frozenset(r"^$\.*+?()[]{}|/")
_NOTHING, _ANYTHING, _NO_LINE_END = r"[^\s\S]", r"[\s\S]", r"[^\n\r\u2028\u2029]"


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Validator:
    """A validator of texts. Raises ``ValueError`` when ``pattern`` is no regular expression."""
    return compile_schema({"type": "string", "pattern": translate(pattern)})


def translate(pattern: str) -> str:
    """``pattern`` as every engine reads it."""
    tokens = list(_TOKEN.finditer(pattern))
    groups = [
        token["name"]
        for token in tokens
        if token["name"] or (token["other"] == "(" and not pattern.startswith("?", token.end()))
    ]
    return "".join(_token(token, groups) for token in tokens)


def _token(match: re.Match[str], groups: list[str | None]) -> str:
    if match["escape"] is not None:
        return _escape(match["escape"], groups)
    if match["body"] is not None:
        return _class(match["body"], negated=bool(match["negated"]))
    if match["quantifier"] is not None:
        return match["quantifier"]
    if match["name"] is not None:
        return "("
    other = match["other"]
    if other == ".":
        return _NO_LINE_END
    return f"\\{other}" if other in "{}]" else other


def _escape(escape: str, groups: list[str | None]) -> str:
    if escape.startswith("k<") and escape[2:-1] in groups:
        return f"(?:\\{groups.index(escape[2:-1]) + 1})"
    if escape[0].isdigit():
        return _number(escape, len(groups))
    if escape in _KEPT:
        return f"\\{escape}"
    return _character(escape) or _NOTHING


def _number(digits: str, group_count: int) -> str:
    if digits[0] != "0" and int(digits) <= group_count:
        return f"(?:\\{digits})"
    octal = re.match(r"[0-3]?[0-7]{1,2}", digits)
    if octal is None:
        return digits
    return f"\\x{int(octal[0], 8):02x}{digits[octal.end() :]}"


def _character(escape: str) -> str:
    """The one character an escape stands for; empty for half of a surrogate pair, which no text contains."""
    if escape[0] == "u" and len(escape) > 1:
        text = escape.replace("u", "\\u", 1).encode().decode("unicode_escape")
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return "" if text == "\ufffd" and escape.lower() != "ufffd" else _literal(text)
    if escape[0] in "xc" and len(escape) > 1:
        return f"\\{escape}"
    return _literal(escape)


def _literal(character: str) -> str:
    return f"\\{character}" if character in _SYNTAX else character


def _class(body: str, *, negated: bool) -> str:
    if not body:
        return _ANYTHING if negated else _NOTHING
    return f"[{'^' if negated else ''}{''.join(_members(body))}]"


def _members(body: str) -> Iterator[str]:
    """The members of a class; a dash beside a set like ``\\w`` is just a dash."""
    atoms = list(_ATOM.finditer(body))
    position = 0
    while position < len(atoms):
        ends = atoms[position : position + 3 : 2]
        if len(ends) == 2 and atoms[position + 1][0] == "-" and not any(end[1] in _SETS for end in ends):
            yield f"{_atom(ends[0])}-{_atom(ends[1])}"
            position += 3
        else:
            yield _atom(atoms[position])
            position += 1


def _atom(match: re.Match[str]) -> str:
    escape, plain = match[1], match[2]
    if plain is not None:
        return f"\\x{ord(plain):02x}" if plain in "&~" else f"\\{plain}" if plain in "-^" else _literal(plain)
    if escape == "b":
        return "\\x08"
    if escape in _KEPT:
        return f"\\{escape}"
    if escape == "0":
        return "\\x00"
    return "\\-" if escape == "-" else _character(escape)
