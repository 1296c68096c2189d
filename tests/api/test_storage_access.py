"""Who may read a storage and who may change it, signatures included."""

from __future__ import annotations

import json

import pytest

from actorium.domain.signing import content_signature, record_signature
from support.program import Program
from support.storage_kinds import (
    ABSENT,
    DAY_SECS,
    FORBIDDEN,
    KINDS,
    NO_TOKEN,
    each_kind,
    message,
    new,
)
from support.storage_server import error

WORDS = {"datasets": "dataset", "key-value-stores": "key-value store", "request-queues": "request queue"}


@each_kind
async def test_general_access(program: Program, kind: str) -> None:
    made = await new(program, kind, "?name=shared")
    by_id, by_name = f"/{kind}/{made['id']}", f"/{kind}/jane~shared"
    reads = {
        "datasets": ["", "/items"],
        "key-value-stores": ["", "/keys", "/records/K"],
        "request-queues": ["", "/head", "/requests"],
    }[kind]
    if kind == "key-value-stores":
        await program.ask("PUT", f"{by_id}/records/K", b"value")
    writes = {
        "datasets": [("POST", "/items", {})],
        "key-value-stores": [("PUT", "/records/K", b"x"), ("PUT", "/records/L", b"x" * 70_000)],
        "request-queues": [
            ("POST", "/requests", {"url": "u", "uniqueKey": "u"}),
            ("POST", "/head/lock?lockSecs=9", None),
            ("POST", "/requests/unlock", None),
        ],
    }[kind]
    for access, id_is_open, name_is_open in (
        ("FOLLOW_USER_SETTING", False, False),
        ("RESTRICTED", False, False),
        ("ANYONE_WITH_ID_CAN_READ", True, False),
        ("ANYONE_WITH_NAME_CAN_READ", True, True),
    ):
        await program.ask("PUT", by_id, {"generalAccess": access})
        for base, is_open in ((by_id, id_is_open), (by_name, name_is_open)):
            for tail in reads:
                stranger = await program.send("GET", base + tail, by="john")
                anonymous = await program.send("GET", base + tail, by=None)
                if is_open:
                    assert (stranger.status, anonymous.status) == (200, 200), (access, base, tail)
                else:
                    assert (error(stranger), error(anonymous)) == (ABSENT, FORBIDDEN), (access, base, tail)
                    assert message(anonymous) == (
                        f"Insufficient permissions for the {WORDS[kind]}. Make sure you're passing a correct API "
                        "token and that it has the required permissions."
                    )
            for method, tail, body in [*writes, ("PUT", "", {"title": "x"}), ("DELETE", "", None)]:
                refused = await program.send(method, base + tail, body, by="john")
                assert error(refused) == (FORBIDDEN if is_open else ABSENT), (access, method, tail)
                assert error(await program.send(method, base + tail, body, by=None)) == NO_TOKEN
    public = await program.ask("GET", by_id, by="john")
    assert "urlSigningSecretKey" not in public
    assert "signature" not in json.dumps(public)
    assert (public["title"], public["name"]) == (None, "shared")


async def test_run_tokens_act_for_their_user_and_end_with_the_run(program: Program) -> None:
    run = await program.run()
    for kind in KINDS:
        made = await program.ask("POST", f"/{kind}?name=by-run", by=run)
        assert (await program.ask("GET", f"/{kind}/~by-run"))["id"] == made["id"]
        assert made["actRunId"] is None, "made by name, it does not live and die with the run"
    forged = {"Authorization": f"Bearer {program.token(run)}x"}
    answer = await program.request("GET", "/v2/datasets", headers=forged, token=None)
    assert error(answer) == (401, "invalid-token")


@pytest.mark.parametrize(
    ("kind", "tail"), [("datasets", "/items"), ("key-value-stores", "/keys"), ("key-value-stores", "/records/a'b(1).t")]
)
async def test_signatures(program: Program, kind: str, tail: str) -> None:
    made, other = await new(program, kind, "?name=signed"), await new(program, kind)
    secret, base = made["urlSigningSecretKey"], f"/{kind}/{made['id']}"
    if "records" in tail:
        await program.ask("PUT", base + tail, b"value")
        good = [record_signature(secret, "a'b(1).t")]
        bad = [
            record_signature(secret, "a'b(1)"),
            record_signature(secret, "a%27b%281%29.t"),
            record_signature(other["urlSigningSecretKey"], "a'b(1).t"),
            content_signature(secret, made["id"]),
        ]
    else:
        soon = program.clock.now_ms() + 60_000
        expiring = content_signature(secret, made["id"], soon)
        padded = expiring + "=" * (-len(expiring) % 4)
        good = [content_signature(secret, made["id"]), expiring, padded, padded.replace("=", "%3D")]
        bad = [
            content_signature(secret, made["id"], soon - 60_001),
            content_signature(secret, other["id"]),
            content_signature(secret, "jane~signed"),
            content_signature(other["urlSigningSecretKey"], made["id"]),
            expiring[:-1],
            "x",
            "%FF",
            "",
            record_signature(secret, "a'b(1).t"),
        ]
    for signature in good:
        for reference in (base, f"/{kind}/jane~signed"):
            for by in (None, "john", "jane"):
                for method in ("GET", "HEAD"):
                    answer = await program.send(method, f"{reference}{tail}?signature={signature}", by=by)
                    assert answer.status == 200, (signature, reference, by, method)
    for signature in bad:
        assert error(await program.send("GET", f"{base}{tail}?signature={signature}", by=None)) == FORBIDDEN, signature
        assert error(await program.send("GET", f"{base}{tail}?signature={signature}", by="john")) == ABSENT
        assert (await program.send("GET", f"{base}{tail}?signature={signature}")).status == 200
    for signature in good:
        assert error(await program.send("GET", f"{base}?signature={signature}", by=None)) == FORBIDDEN
        assert error(await program.send("DELETE", f"{base}?signature={signature}", by=None)) == NO_TOKEN
        assert error(await program.send("PUT", f"{base}?signature={signature}", {}, by="john")) == ABSENT
    program.clock.advance(60.001)
    for signature in good[1:]:
        assert error(await program.send("GET", f"{base}{tail}?signature={signature}", by=None)) == FORBIDDEN
    assert (await program.send("GET", f"{base}{tail}?signature={good[0]}", by=None)).status == 200
    await program.ask("PUT", base, {"generalAccess": "ANYONE_WITH_ID_CAN_READ"})
    assert (await program.send("GET", f"{base}{tail}?signature={bad[0]}", by=None)).status == 200


async def test_addresses_the_server_gives_out(program: Program) -> None:
    dataset, store = await new(program, "datasets"), await new(program, "key-value-stores")
    await program.ask("POST", f"/datasets/{dataset['id']}/items", {"n": 1})
    await program.ask("PUT", f"/key-value-stores/{store['id']}/records/a'b(1)!", b"value")
    key = (await program.ask("GET", f"/key-value-stores/{store['id']}/keys"))["items"][0]
    expiring, permanent = [dataset["itemsPublicUrl"], store["keysPublicUrl"]], key["recordPublicUrl"]
    assert store["recordsPublicUrl"] == f"{program.url}/v2/key-value-stores/{store['id']}/records"

    async def statuses() -> list[int]:
        urls = [url.removeprefix(program.url) for url in (*expiring, permanent)]
        return [(await program.request("GET", url, token=None)).status for url in urls]

    assert await statuses() == [200, 200, 200]
    program.clock.advance(14 * DAY_SECS)
    assert await statuses() == [200, 200, 200]
    program.clock.advance(0.001)
    assert await statuses() == [403, 403, 200]
