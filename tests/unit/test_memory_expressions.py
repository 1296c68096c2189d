"""Expressions of ``defaultMemoryMbytes``: actors, section 3.6. What they amount to was compared with the platform's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.memory_expressions import MemoryExpressionError, compile_memory, evaluate_memory
from actorium.domain.pricing import nearest_memory

INPUT: dict[str, Any] = {
    "n": 3,
    "s": "abc",
    "num": "4",
    "t": True,
    "f": False,
    "z": None,
    "o": {"a": {"b": 7}},
    "startUrls": [1, 2, 3, 4],
    "list": [5, 9, 2],
}
OPTIONS = {"maxItems": 100, "timeoutSecs": 60}


@pytest.mark.parametrize(
    ("expression", "mbytes"),
    [
        ("input.n * 512", 2048),
        ("input.missing ?? 500", 512),
        ("input.z ?? 900", 1024),
        ("5 ?? 6 + 1000", 1024),
        ("1 + null ?? 900", 1024),
        ("input.n == 3 ? 1024 : 256", 1024),
        ("compareText(input.s, 'abc') == 0 ? 1024 : 512", 1024),
        ("a = 100; a * 3", 256),
        ("a = 100\na*4", 512),
        ("a = b = 600", 512),
        ("(a = 5) * 100", 512),
        ("get(input, 'startUrls.length', 1) * 1024", 4096),
        ("get(input, 'x.y', 7) * 128", 1024),
        ("get(input.missing, 'a', 500)", 512),
        ("get(input, 'list.1') * 100", 1024),
        ("input.startUrls.length * 100", 512),
        ("input['n'] * 200", 512),
        ("{{input.n}} * 300", 1024),
        ("{{ runOptions.maxItems }} * 10", 1024),
        ("runOptions.maxItems * 10", 1024),
        ("max(input.list) * 100", 1024),
        ("min(1024, 2048, 700)", 512),
        ("input.t + 500", 512),
        ("input.num * 200", 1024),
        ("'5' + '6'", 128),
        ("input.t and input.f ? 100 : 700", 512),
        ("input.t or input.f ? 1000 : 2", 1024),
        ("input.t xor input.f ? 1000 : 2", 1024),
        ("not 1 == 2 ? 800 : 100", 128),
        ("not (1 == 2) ? 800 : 100", 1024),
        ("1 < 2 ? 3000 : 4", 4096),
        ("2 >= 3 ? 3000 : 300", 256),
        ("ceil(1000.2)", 1024),
        ("round(-1000.5) * -1", 1024),
        ("2 ^ 10", 1024),
        ("2 ^ 3 ^ 2", 512),
        ("-2 * -300", 512),
        ("10 - 5 - 3 + 1000", 1024),
        ("1000 / 10 / 2 * 9", 512),
        ("2 input.n * 100", 512),
        ("(2)(300)", 512),
        ("1e3", 1024),
        (".5 * 1000", 512),
        ("0.1 + 0.2 == 0.3 ? 500 : 900", 512),
        ("input.z == input.missing ? 500 : 1000", 1024),
        ("input.z == null ? 600 : 1", 512),
        ("'' ? 700 : 100", 128),
        ("true ? 500 : false ? 3 : 4", 512),
        ("# comment\n400 # more", 512),
        ("exp(7)", 1024),
        ("1e9", 32_768),
        ("0.001", 128),
        ("384", 512),
        ("362", 256),
    ],
)
def test_amounts(expression: str, mbytes: int) -> None:
    assert nearest_memory(evaluate_memory(expression, INPUT, OPTIONS)) == mbytes


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("input.missing * 2", "a number is needed, but there is undefined"),
        ("input.s == 'abc' ? 1 : 2", 'cannot convert "abc" to a number'),
        ("input.o.q.b", 'cannot access property "b" of undefined'),
        ("input.o ? 1 : 2", "a condition cannot be an object"),
        ("get(input, 'x.y')", "greater than 0, but is undefined"),
        ("-1", "greater than 0, but is -1"),
        ("0", "greater than 0"),
        ("1 / 0", "it cannot be calculated"),
        ("10 ^ 1000", "it cannot be calculated"),
        ("log(-1)", "it cannot be calculated"),
        ("(-8) ^ 0.5", "no number"),
        ("true", "greater than 0, but is True"),
        ("'500'", "greater than 0, but is 500"),
        ("max()", "min and max need a value"),
        ("get()", "get does not take 0 values"),
        ("compareText(1, 1)", "compareText needs two texts"),
        ("x", "there is no x: there are input and runOptions"),
    ],
)
def test_what_amounts_to_nothing(expression: str, message: str) -> None:
    compile_memory(expression)
    with pytest.raises(MemoryExpressionError) as error:
        evaluate_memory(expression, INPUT, OPTIONS)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("", "it is empty"),
        (" ; # nothing", "it is empty"),
        ("1 +", "there is an unexpected end at 4"),
        ("1 ? 2 :", "unexpected end"),
        ("500)", "unexpected ')' at 4"),
        ("a = 5, 6", "unexpected ','"),
        ("5 % 3", "unexpected '%' at 3"),
        ("[1]", "unexpected '['"),
        ("input.a()", "unexpected ')'"),
        ("min", "unexpected end"),
        ("'open", 'unexpected "\'" at 1'),
        ("{{foo}}", "'{{foo}}' is not a variable"),
        ("{{runOptions.x}}", "'{{runOptions.x}}' is not a variable"),
        ("1 " * 501, "it is longer than 1000 characters"),
        ("(" * 400 + "1" + ")" * 400, "it is nested more than 50 levels deep"),
        ("-" * 900 + "1", "it is nested more than 50 levels deep"),
        ("2" + "^1" * 450, "it is nested more than 50 levels deep"),
    ],
)
def test_what_cannot_be_read(expression: str, message: str) -> None:
    with pytest.raises(MemoryExpressionError) as error:
        compile_memory(expression)
    assert message in str(error.value)


_PIECES = [
    "input",
    ".a",
    "1",
    "+",
    "-",
    "*",
    "/",
    "(",
    ")",
    "?",
    ":",
    "??",
    "==",
    "'x'",
    "and",
    "not",
    "=",
    "b",
    ";",
    "^",
]
_PIECES += ["get(", "max(", ",", "null", "[", "]", "9e99", "<", "{{input.a}}", "length"]


@given(st.lists(st.sampled_from(_PIECES), max_size=30), st.dictionaries(st.just("a"), st.none() | st.integers()))
def test_any_expression_ends_with_a_number_or_says_why(pieces: list[str], values: dict[str, Any]) -> None:
    try:
        amount = evaluate_memory(" ".join(pieces), values, {})
    except MemoryExpressionError:
        return
    assert 128 <= nearest_memory(amount) <= 32_768


def test_long_chains_are_evaluated() -> None:
    assert evaluate_memory("1" + "+1" * 499, {}, {}) == 500
    assert evaluate_memory("null" + "??1" * 300, {}, {}) == 1
