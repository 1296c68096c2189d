"""Expressions for ``defaultMemoryMbytes``: how much memory a run gets by its input. docs: dynamic_actor_memory.

The language is the part of mathjs that the platform enables: arithmetic, comparisons, conditions, assignments. An
expression is read into nested functions, so that nothing but what is written here can happen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

MAX_LENGTH = 1000
RUN_OPTIONS = ("build", "timeoutSecs", "memoryMbytes", "diskMbytes", "maxItems", "maxTotalChargeUsd", "restartOnError")
_MAX_DEPTH = 50

Scope = dict[str, Any]
Node = Callable[[Scope], Any]


class MemoryExpressionError(ValueError):
    """What is wrong with an expression, or with what it amounts to."""


class _Undefined:
    """What a name that an object does not have stands for; not the same as ``null``."""

    def __repr__(self) -> str:
        return "undefined"


UNDEFINED = _Undefined()


def evaluate_memory(expression: str, values: Mapping[str, Any], run_options: Mapping[str, Any]) -> float:
    """What the expression amounts to for an input and the options of a run. Raises ``MemoryExpressionError``."""
    try:
        amount = compile_memory(expression)({"input": values, "runOptions": run_options})
    except (OverflowError, ZeroDivisionError) as error:
        raise MemoryExpressionError(f"it cannot be calculated: {error}") from error
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not math.isfinite(amount) or amount <= 0:
        raise MemoryExpressionError(f"it must amount to a number greater than 0, but is {str(amount)[:100]}")
    return amount


def compile_memory(expression: str) -> Node:
    """Read an expression. Raises ``MemoryExpressionError`` saying what is wrong and where."""
    if len(expression) > MAX_LENGTH:
        raise MemoryExpressionError(f"it is longer than {MAX_LENGTH} characters")
    return _Parser(_VARIABLE.sub(_variable, expression)).statements()


_VARIABLE = re.compile(r"{{\s*([a-zA-Z0-9_.]+)\s*}}")
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r]+|\#[^\n]*)
    | (?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<name>[A-Za-z_$][A-Za-z0-9_$]*)
    | (?P<sign>\?\?|==|!=|<=|>=|[-+*/^<>?:=(),.;\[\]\n])
    """,
    re.VERBOSE,
)
_WORDS = frozenset({"and", "or", "xor", "not"})
_CONSTANTS = {"true": True, "false": False, "null": None, "undefined": UNDEFINED}


def _variable(match: re.Match[str]) -> str:
    root, _, rest = match[1].partition(".")
    if root == "runOptions" and rest in RUN_OPTIONS:
        return match[1]
    if root == "input" and rest:
        return match[1]
    allowed = ", ".join(f"runOptions.{name}" for name in RUN_OPTIONS)
    raise MemoryExpressionError(f"'{match[0]}' is not a variable: there are input.<field>, {allowed}")


def _number(value: Any) -> float:
    """A value where a number is needed: as mathjs does, texts of numbers and booleans are numbers too."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError as error:
            raise MemoryExpressionError(f'cannot convert "{value[:100]}" to a number') from error
    if isinstance(value, int | float):
        return float(value)
    raise MemoryExpressionError(f"a number is needed, but there is {_named(value)}")


def _named(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "an array", type(None): "null", _Undefined: "undefined"}
    return next((name for kind, name in names.items() if isinstance(value, kind)), repr(value)[:100])


def _is_equal(left: Any, right: Any) -> bool:
    for missing in (None, UNDEFINED):
        if left is missing or right is missing:
            return left is right
    return math.isclose(_number(left), _number(right), rel_tol=1e-12, abs_tol=1e-15)


def _is_true(value: Any) -> bool:
    if value is None or value is UNDEFINED:
        return False
    if isinstance(value, dict | list):
        raise MemoryExpressionError(f"a condition cannot be {_named(value)}")
    return bool(value)


def _power(base: Any, exponent: Any) -> Any:
    found = _number(base) ** _number(exponent)
    if isinstance(found, complex):
        raise MemoryExpressionError("a root of a negative number is no number")
    return found


def _member(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, UNDEFINED)
    if isinstance(value, list) and name == "length":
        return len(value)
    raise MemoryExpressionError(f'cannot access property "{name}" of {_named(value)}')


def _get(value: Any, path: Any, default: Any = UNDEFINED) -> Any:
    for name in str(path).split("."):
        if isinstance(value, list) and name.isdecimal():
            value = value[int(name)] if int(name) < len(value) else UNDEFINED
        else:
            value = _member(value, name) if isinstance(value, Mapping | list) and _has(value, name) else UNDEFINED
    return default if value is None or value is UNDEFINED else value


def _has(value: Any, name: str) -> bool:
    return isinstance(value, Mapping) or name == "length"


def _compare_text(left: Any, right: Any) -> int:
    if not isinstance(left, str) or not isinstance(right, str):
        raise MemoryExpressionError(f"compareText needs two texts, but there is {_named(left)} and {_named(right)}")
    return (left > right) - (left < right)


def _extreme(choose: Callable[[list[float]], float]) -> Callable[..., float]:
    def of(*values: Any) -> float:
        items = values[0] if len(values) == 1 and isinstance(values[0], list) else values
        if not items:
            raise MemoryExpressionError("min and max need a value")
        return choose([_number(item) for item in items])

    return of


def _of_number(function: Callable[[float], float]) -> Callable[[Any], float]:
    def of(value: Any) -> float:
        try:
            return function(_number(value))
        except ValueError as error:
            raise MemoryExpressionError(f"it cannot be calculated: {error}") from error

    return of


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": _extreme(min),
    "max": _extreme(max),
    "ceil": _of_number(lambda number: float(math.ceil(number))),
    "floor": _of_number(lambda number: float(math.floor(number))),
    "round": _of_number(lambda number: math.copysign(math.floor(abs(number) + 0.5), number)),
    "log": _of_number(math.log),
    "log10": _of_number(math.log10),
    "exp": _of_number(math.exp),
    "compareText": _compare_text,
    "get": _get,
}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "or": lambda left, right: bool(_number(left)) or bool(_number(right)),
    "xor": lambda left, right: bool(_number(left)) is not bool(_number(right)),
    "and": lambda left, right: bool(_number(left)) and bool(_number(right)),
    "==": _is_equal,
    "!=": lambda left, right: not _is_equal(left, right),
    "<": lambda left, right: _number(left) < _number(right),
    ">": lambda left, right: _number(left) > _number(right),
    "<=": lambda left, right: _number(left) <= _number(right),
    ">=": lambda left, right: _number(left) >= _number(right),
    "+": lambda left, right: _number(left) + _number(right),
    "-": lambda left, right: _number(left) - _number(right),
    "*": lambda left, right: _number(left) * _number(right),
    "/": lambda left, right: _number(left) / _number(right),
}
_LEVELS = (("or",), ("xor",), ("and",), ("==", "!=", "<", ">", "<=", ">="), ("+", "-"), ("*", "/"))
"""Operators between two values, those that bind least first."""


class _Parser:
    """Reads tokens by recursive descent."""

    def __init__(self, expression: str) -> None:
        self._tokens: list[tuple[str, str, int]] = []
        self._depth = 0
        position = 0
        while position < len(expression):
            match = _TOKEN.match(expression, position)
            if match is None or match.lastgroup is None:
                raise MemoryExpressionError(f"there is an unexpected {expression[position]!r} at {position + 1}")
            if match.lastgroup != "space":
                kind = "sign" if match[0] in _WORDS else match.lastgroup
                self._tokens.append((kind, match[0], position + 1))
            position = match.end()
        self._tokens.append(("end", "", len(expression) + 1))
        self._next = 0

    def statements(self) -> Node:
        """Several statements; the last one counts."""
        found: list[Node] = []
        while self._tokens[self._next][0] != "end":
            if not self._take(";", "\n"):
                found.append(self._assignment())
                if self._tokens[self._next][0] != "end" and not self._take(";", "\n"):
                    self._unexpected()
        if not found:
            raise MemoryExpressionError("it is empty")

        def evaluate(scope: Scope) -> Any:
            results = [statement(scope) for statement in found]
            return results[-1]

        return evaluate

    def _take(self, *signs: str) -> str | None:
        kind, text, _ = self._tokens[self._next]
        if kind != "sign" or text not in signs:
            return None
        self._next += 1
        return text

    def _need(self, sign: str) -> None:
        if self._take(sign) is None:
            self._unexpected()

    def _unexpected(self) -> None:
        _, text, position = self._tokens[self._next]
        what = f"unexpected {text!r}" if text else "unexpected end"
        raise MemoryExpressionError(f"there is an {what} at {position}")

    def _assignment(self) -> Node:
        kind, name, _ = self._tokens[self._next]
        if kind == "name" and self._tokens[self._next + 1][:2] == ("sign", "="):
            self._next += 2
            value = self._deeper(self._assignment)

            def evaluate(scope: Scope) -> Any:
                scope[name] = value(scope)
                return scope[name]

            return evaluate
        return self._condition()

    def _deeper(self, read: Callable[[], Node]) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise MemoryExpressionError(f"it is nested more than {_MAX_DEPTH} levels deep")
        value = read()
        self._depth -= 1
        return value

    def _condition(self) -> Node:
        condition = self._operation(0)
        if self._take("?") is None:
            return condition
        then = self._deeper(self._assignment)
        self._need(":")
        otherwise = self._deeper(self._assignment)
        return lambda scope: then(scope) if _is_true(condition(scope)) else otherwise(scope)

    def _operation(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        left = self._operation(level + 1)
        while True:
            operator = self._take(*_LEVELS[level])
            if operator is None and level == len(_LEVELS) - 1 and self._is_operand():
                operator = "*"
            if operator is None:
                return left
            left = _binary(_OPERATORS[operator], left, self._operation(level + 1))

    def _is_operand(self) -> bool:
        kind, text, _ = self._tokens[self._next]
        return kind == "name" or (kind, text) == ("sign", "(")

    def _unary(self) -> Node:
        operator = self._take("-", "+", "not")
        if operator is None:
            return self._power()
        value = self._deeper(self._unary)
        if operator == "not":
            return lambda scope: not _number(value(scope))
        sign = -1 if operator == "-" else 1
        return lambda scope: sign * _number(value(scope))

    def _power(self) -> Node:
        base = self._fallback()
        if self._take("^") is None:
            return base
        return _binary(_power, base, self._deeper(self._unary))

    def _fallback(self) -> Node:
        left = self._postfix()
        while self._take("??"):
            left = _first_defined(left, self._postfix())
        return left

    def _postfix(self) -> Node:
        value = self._primary()
        while sign := self._take(".", "["):
            kind, name, _ = self._tokens[self._next]
            if kind != ("name" if sign == "." else "text"):
                self._unexpected()
            self._next += 1
            if sign == "[":
                name = _text_of(name)
                self._need("]")
            value = _access(value, name)
        return value

    def _primary(self) -> Node:
        kind, text, _ = self._tokens[self._next]
        if kind == "number":
            self._next += 1
            return _constant(float(text))
        if kind == "text":
            self._next += 1
            return _constant(_text_of(text))
        if kind == "name":
            self._next += 1
            return self._named(text)
        self._need("(")
        value = self._deeper(self._assignment)
        self._need(")")
        return value

    def _named(self, name: str) -> Node:
        if name in _CONSTANTS:
            return _constant(_CONSTANTS[name])
        if name in _FUNCTIONS:
            return self._call(name)

        def evaluate(scope: Scope) -> Any:
            if name not in scope:
                raise MemoryExpressionError(f"there is no {name}: there are input and runOptions")
            return scope[name]

        return evaluate

    def _call(self, name: str) -> Node:
        self._need("(")
        arguments: list[Node] = []
        while not self._take(")"):
            if arguments:
                self._need(",")
            arguments.append(self._deeper(self._assignment))
        function = _FUNCTIONS[name]

        def evaluate(scope: Scope) -> Any:
            values = [argument(scope) for argument in arguments]
            try:
                return function(*values)
            except TypeError as error:
                raise MemoryExpressionError(f"{name} does not take {len(values)} values") from error

        return evaluate


def _text_of(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])


def _constant(value: Any) -> Node:
    return lambda _: value


def _binary(function: Callable[[Any, Any], Any], left: Node, right: Node) -> Node:
    return lambda scope: function(left(scope), right(scope))


def _first_defined(left: Node, right: Node) -> Node:
    def evaluate(scope: Scope) -> Any:
        value = left(scope)
        return right(scope) if value is None or value is UNDEFINED else value

    return evaluate


def _access(value: Node, name: str) -> Node:
    return lambda scope: _member(value(scope), name)
