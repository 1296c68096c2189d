"""The tools: what arrives of a request, and signed values."""

from __future__ import annotations

import base64
import json

import pytest

from support.checked import CheckedProgram


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/browser-info", "/browser-info/"])
async def test_browser_info_tells_what_arrived(checked: CheckedProgram, method: str, path: str) -> None:
    body = b"12345" if method in ("POST", "PUT") else None
    answer = await checked.send(method, path, body, by=None, headers={"X-Mine": "1"})
    found = json.loads(answer.body)
    assert answer.status == 200
    assert (found["method"], found["clientIp"], found["countryCode"]) == (method, "127.0.0.1", None)
    assert found["bodyLength"] == len(body or b"")
    assert found["headers"]["x-mine"] == "1"
    assert "rawHeaders" not in found


async def test_browser_info_with_other_headers(checked: CheckedProgram) -> None:
    answer = await checked.send("GET", "/browser-info?skipHeaders=1&rawHeaders=true", by=None, headers={"X-Mine": "1"})
    found = json.loads(answer.body)
    assert "headers" not in found
    raw = found["rawHeaders"]
    assert dict(zip(raw[::2], raw[1::2], strict=True))["x-mine"] == "1"


async def sign(checked: CheckedProgram, value: object, by: str = "jane") -> str:
    answer = await checked.send("POST", "/tools/encode-and-sign", value, by=by)
    assert answer.status == 200
    encoded: str = json.loads(answer.body)["data"]["encoded"]
    return encoded


async def test_a_signed_object_comes_back_with_its_user(checked: CheckedProgram) -> None:
    value = {"key": "value", "n": [1, 2.5, None, {"\u00fc": "\U0001f600"}], "big": 2**60}
    encoded = await sign(checked, value)
    assert set(json.loads(base64.b64decode(encoded))) == {"payload", "signature"}
    answer = await checked.send("POST", "/tools/decode-and-verify", {"encoded": encoded}, by=None)
    assert json.loads(answer.body)["data"] == {
        "decoded": value,
        "encodedByUserId": checked.people["jane"].user_id,
        "isVerifiedUser": True,
    }


async def test_a_user_that_is_gone_is_not_verified(checked: CheckedProgram) -> None:
    encoded = await sign(checked, {}, by="john")
    await checked.platform.accounts.remove_user("john")
    answer = await checked.send("POST", "/tools/decode-and-verify", {"encoded": encoded}, by=None)
    assert json.loads(answer.body)["data"]["isVerifiedUser"] is False


async def test_what_was_not_signed_here_is_refused(checked: CheckedProgram) -> None:
    envelope = json.loads(base64.b64decode(await sign(checked, {"a": 1})))
    forged = {**envelope, "payload": envelope["payload"].replace("1", "2")}
    texts = [
        "",
        "x",
        "\u00e9",
        base64.b64encode(b"{}").decode(),
        base64.b64encode(json.dumps(forged).encode()).decode(),
    ]
    for text in texts:
        answer = await checked.send("POST", "/tools/decode-and-verify", {"encoded": text}, by=None)
        assert answer.status == 400, text
        assert json.loads(answer.body)["error"]["type"] == "invalid-signature"


@pytest.mark.parametrize("tool", ["encode-and-sign", "decode-and-verify"])
async def test_bad_bodies_are_named(checked: CheckedProgram, tool: str) -> None:
    path = f"/tools/{tool}"
    for body, named in ((b"{", "JSON"), (b"[]", "object"), (b'{"encoded": 1}', "encoded")):
        answer = await checked.send("POST", path, body, headers={"Content-Type": "application/json"})
        if tool == "encode-and-sign" and b"encoded" in body:
            continue
        assert answer.status == 400
        assert named in json.loads(answer.body)["error"]["message"]
    answer = await checked.send("POST", path, b"{}", headers={"Content-Type": "text/plain"})
    assert json.loads(answer.body)["error"]["type"] == "invalid-content-type-header"


async def test_signing_needs_a_token(checked: CheckedProgram) -> None:
    answer = await checked.send("POST", "/tools/encode-and-sign", {}, by=None)
    assert answer.status == 401
