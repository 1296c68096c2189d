"""Requests as clients send them: what is kept, what comes back, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.errors import ApiError
from actorium.domain.json_texts import MAX_DEPTH, is_too_deep, mend
from actorium.domain.requests import StoredRequest, decode_cursor, parse_request, request_id, request_object
from actorium.domain.times import iso

_STATE = {"id", "handledAt", "lockExpiresAt", "lockByClient"}
_KNOWN = {"uniqueKey", "url", "method", "retryCount", "userData", "headers", "payload", "loadedUrl", "noRetry",
          "errorMessages"}  # fmt: skip
_text = st.text(st.characters(), max_size=5)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)
_objects = st.dictionaries(_text, _json, max_size=3)
_requests = st.fixed_dictionaries(
    {"uniqueKey": st.text(st.characters(), min_size=1, max_size=8), "url": st.text(min_size=1, max_size=8)},
    optional={
        "method": st.sampled_from([None, "GET", "POST", "PATCH"]),
        "retryCount": st.none() | st.integers(0, 2**31 - 1),
        "userData": st.none() | _objects,
        "headers": st.none() | _objects,
        "payload": st.none() | _text | _objects,
        "loadedUrl": st.none() | _text,
        "noRetry": st.none() | st.booleans(),
        "errorMessages": st.none() | st.lists(_text, max_size=2),
    },
)
_unknown = st.dictionaries(_text.filter(lambda name: name not in _STATE | _KNOWN), _json, max_size=3)


def _mended(value: Any) -> Any:
    """Half a surrogate pair alone is no character."""
    text = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.loads(text)


def shown(text: str | bytes, **state: Any) -> dict[str, Any]:
    new = parse_request(text.encode() if isinstance(text, str) else text)
    state = {"handled_at": new.handled_at, "lock_expires_at": None, "lock_client_key": None, **state}
    found: dict[str, Any] = json.loads(bytes(request_object(StoredRequest(new.id, new.text, **state), 1000)))
    return found


@given(_requests, _unknown, st.booleans(), st.sampled_from([None, ", ", " ,\n "]))
def test_what_was_sent_comes_back_without_nulls(
    known: dict[str, Any], unknown: dict[str, Any], is_ascii: bool, comma: str | None
) -> None:
    sent = {**unknown, **known}
    text = json.dumps(sent, separators=(comma, ":") if comma else None)
    if not is_ascii:
        try:
            text = json.dumps(sent, ensure_ascii=False).encode().decode()
        except UnicodeEncodeError:
            is_ascii = True
    sent = json.loads(mend(text.encode()))
    defaults = {"method": "GET", "retryCount": 0, "noRetry": False, "errorMessages": [], "headers": {}, "userData": {}}
    expected = {**defaults, **{name: value for name, value in sent.items() if value is not None}}
    found = shown(text)
    assert found == {"id": request_id(sent["uniqueKey"]), **expected}
    head = json.loads(parse_request(text.encode()).head)
    assert head == {name: found[name] for name in ("id", "uniqueKey", "url", "method", "retryCount")}


@given(st.sampled_from(["1e400", "-0", "1.10", "123456789012345678901234567890", "1E5", "0.1e-400", "9" * 5000]))
def test_numbers_keep_their_text(number: str) -> None:
    text = f'{{"uniqueKey":"k","url":"u","userData":{{"n":{number}}},"score":{number}}}'
    new = parse_request(text.encode())
    found = bytes(request_object(StoredRequest(new.id, new.text, None, None, None), 0)).decode()
    assert f'"userData":{{"n":{number}}}' in found
    assert f'"score":{number}' in found


@given(st.integers(0, 253_402_300_799_999), st.sampled_from(["{}", "python", "offset"]))
def test_every_time_clients_write_comes_back(at_ms: int, how: str) -> None:
    written = iso(at_ms)
    given_as = written
    if how == "python":
        given_as = written.replace("T", " ").replace("Z", "400+00:00")
    elif how == "offset":
        given_as = written.replace("Z", "+00:00")
    found = shown(json.dumps({"uniqueKey": "k", "url": "u", "handledAt": given_as}))
    assert found["handledAt"] == written


@pytest.mark.parametrize(
    "moment",
    ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999999Z", "1969-12-31T23:59:59Z",
     "soon", 5, True, "", {}],
)  # fmt: skip
def test_times_that_cannot_be_written_again_are_refused(moment: Any) -> None:
    with pytest.raises(ApiError, match="handledAt"):
        shown(json.dumps({"uniqueKey": "k", "url": "u", "handledAt": moment}))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("method", [False, 0, "", [], {}, "FETCH", 5]),
        ("retryCount", [False, "", [], {}, -1, 1.5, 2**31, "1", True]),
        ("userData", ["{}", [], 1, True]),
        ("headers", ["{}", [], 1, False]),
        ("payload", [1, [], True]),
        ("loadedUrl", [1, [], {}]),
        ("noRetry", ["false", 0, []]),
        ("errorMessages", ["x", {}, [1], ["x", None], 1]),
        ("url", [None, "", 1]),
        ("uniqueKey", [None, "", 1]),
    ],
)  # fmt: skip
def test_wrong_types_are_named(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ApiError, match=rf"Item \[3\] .*\b{field}\b"):
            parse_request(json.dumps({"uniqueKey": "k", "url": "u", field: value}).encode(), "Item [3]")


def test_methods_come_back_in_capitals() -> None:
    assert shown('{"uniqueKey":"k","url":"u","method":"post"}')["method"] == "POST"
    assert shown('{"uniqueKey":"k","url":"u","method":null}')["method"] == "GET"


def test_a_lock_is_shown_until_it_expires() -> None:
    text = '{"uniqueKey":"k","url":"u"}'
    locked = shown(text, lock_expires_at=1001, lock_client_key="me")
    assert (locked["lockExpiresAt"], locked["lockByClient"]) == ("1970-01-01T00:00:01.001Z", "me")
    assert "lockExpiresAt" not in shown(text, lock_expires_at=1000, lock_client_key="me")


@given(st.integers(1, 2 * MAX_DEPTH), st.booleans())
def test_nesting_is_measured_outside_of_strings(levels: int, is_list: bool) -> None:
    start, end = ("[", "]") if is_list else ('{"[{":', "}")
    inner = start * levels + '"\\"[[[{"' + end * levels
    assert is_too_deep(inner.encode()) == (levels > MAX_DEPTH)
    text = f'{{"uniqueKey":"k","url":"u","x":{inner}}}'.encode()
    if levels + 1 > MAX_DEPTH:
        with pytest.raises(ApiError, match="200 levels deep"):
            parse_request(text)
    else:
        assert b"x" in parse_request(text).text.encode()


@given(st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")) | st.text(max_size=30))
def test_any_cursor_is_an_id_or_refused(cursor: str) -> None:
    try:
        found = decode_cursor(cursor)
    except ApiError:
        return
    assert isinstance(found, str)


@given(st.lists(st.sampled_from([r"\ud83d", r"\ude00", r"\ud800", r"\\", "a", r"\"", r"\u0041", "💛", r"\uDfFf"])))
def test_mending_changes_lone_halves_only(parts: list[str]) -> None:
    text = f'"{"".join(parts)}"'
    mended = mend(text.encode())
    assert len(mended) == len(text.encode())
    assert json.loads(mended) == _mended(json.loads(text))
    assert mend(mended) == mended
