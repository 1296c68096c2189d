"""Signing in with a browser, and sessions. OpenID Connect Core 1.0, RFC 7636, RFC 9700."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from support.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdProvider
from support.program import Program
from support.storage_kinds import message
from support.storage_server import Answer, error

OIDC, HEADER = "/actorium/sign-in/oidc", "/actorium/sign-in/header"
NOT_SIGNED_IN = (401, "user-not-authenticated")


@pytest.fixture
async def provider(tmp_path: Path, database_url: str) -> AsyncIterator[tuple[Program, OpenIdProvider]]:
    program: Program
    found = OpenIdProvider(lambda: program.clock.now_ms())
    await found.start()
    program = Program(
        tmp_path / "data",
        database_url,
        oidc_issuer_url=found.url,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret=CLIENT_SECRET,
        sign_in_groups="staff",
        admin_groups="admins",
        session_hours=2,
    )
    await program.start()
    yield program, found
    await program.stop()
    await found.stop()


class Browser:
    """Keeps cookies as a browser does."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.cookies: dict[str, str] = {}

    async def send(self, method: str, path: str, headers: dict[str, str] | None = None) -> Answer:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = await self._program.request(method, path, None, {"Cookie": cookie, **(headers or {})}, None)
        for header in answer.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(header).items():
                assert morsel["httponly"]
                assert morsel["samesite"].lower() == "lax"
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        return answer

    async def begin(self, query: str = "") -> str:
        answer = await self.send("GET", f"{OIDC}{query}")
        assert answer.status == 302, answer.body
        location: str = answer.headers["Location"]
        return location

    async def complete(self, parameters: dict[str, str]) -> Answer:
        return await self.send("GET", f"{OIDC}/callback?{urlencode(parameters)}")

    async def sign_in(self, provider: OpenIdProvider, **claims: Any) -> Answer:
        return await self.complete(provider.sign_in(await self.begin(), **claims))

    async def session(self) -> dict[str, Any]:
        answer = await self.send("GET", "/actorium/session")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)["data"]
        return found


async def test_signing_in_through_a_provider(provider: tuple[Program, OpenIdProvider]) -> None:
    program, openid = provider
    browser = Browser(program)
    url = await browser.begin("?returnTo=/actorium/tokens")
    assert urlsplit(url).path == "/authorize"
    claims = {"sub": "u1", "preferred_username": "Ann Lee", "email": "ann@example.org", "groups": ["staff"]}
    answer = await browser.complete(openid.sign_in(url, **claims))
    assert (answer.status, answer.headers["Location"]) == (302, "/actorium/tokens")
    session = await browser.session()
    assert (session["username"], session["role"]) == ("Ann-Lee", "USER")
    csrf = {"X-Actorium-CSRF": session["csrfToken"]}
    me = await browser.send("GET", "/v2/users/me", csrf)
    assert json.loads(me.body)["data"]["email"] == "ann@example.org"
    tokens = json.loads((await browser.send("GET", "/actorium/tokens", csrf)).body)["data"]["items"]
    assert [one["name"] for one in tokens] == ["session"]
    log = json.loads((await browser.send("GET", "/actorium/audit-log", csrf)).body)["data"]["items"]
    assert [(one["action"], one["operation"]) for one in log] == [("token.create", "actorium_signIn_callback_get")]
    again = Browser(program)
    await again.sign_in(openid, **{**claims, "preferred_username": "renamed", "groups": ["admins"]})
    second = await again.session()
    assert (second["id"], second["role"]) == (session["id"], "ADMIN")


async def test_a_cookie_alone_does_nothing(provider: tuple[Program, OpenIdProvider]) -> None:
    """Another site's page can send it, but cannot read the session."""
    program, openid = provider
    browser = Browser(program)
    await browser.sign_in(openid, sub="u1", groups=["staff"])
    token = (await browser.session())["csrfToken"]
    for method, path in (("POST", "/v2/datasets"), ("GET", "/v2/datasets"), ("GET", "/v2/datasets?method=POST")):
        for headers in ({}, {"X-Actorium-CSRF": "x"}, {"X-Actorium-CSRF": token[:-1] + "z"}):
            assert error(await browser.send(method, path, headers)) == (401, "token-not-provided")
        assert (await browser.send(method, path, {"X-Actorium-CSRF": token})).status < 300
    session = browser.cookies["actorium_session"]
    for forged in (session[:-1] + "z", session.rpartition(".")[0], f"{program.token('jane')}.x"):
        browser.cookies["actorium_session"] = forged
        assert (await browser.send("GET", "/actorium/session")).status == 401


async def test_signing_out_and_the_end_of_a_session(provider: tuple[Program, OpenIdProvider]) -> None:
    program, openid = provider
    first, second = Browser(program), Browser(program)
    for browser in (first, second):
        await browser.sign_in(openid, sub="u1", groups=["staff"])
    csrf = {"X-Actorium-CSRF": (await first.session())["csrfToken"]}
    stolen = dict(first.cookies)
    assert (await first.send("DELETE", "/actorium/session")).status == 401
    assert (await first.send("DELETE", "/actorium/session", csrf)).status == 204
    assert "actorium_session" not in first.cookies
    program.platform.access.forget()
    first.cookies = stolen
    assert (await first.send("GET", "/actorium/session")).status == 401
    assert (await second.send("GET", "/actorium/session")).status == 200
    program.clock.advance(2 * 3600 + 1)
    assert (await second.send("GET", "/actorium/session")).status == 401
    by_token = await program.request("DELETE", "/actorium/session", token=program.token("jane"))
    assert error(by_token) == (400, "invalid-request")


async def test_who_may_not_sign_in(provider: tuple[Program, OpenIdProvider]) -> None:
    program, openid = provider
    for claims in ({"sub": "u1", "groups": ["others"]}, {"sub": "u1"}):
        assert error(await Browser(program).sign_in(openid, **claims)) == (403, "insufficient-permissions")
    for spoiled in (
        {"nonce": "x"},
        {"aud": "another-client"},
        {"iss": "http://another.example"},
        {"exp": 1},
        {"sub": ""},
    ):
        openid.spoil = spoiled
        refused = await Browser(program).sign_in(openid, sub="u1", groups=["staff"])
        assert error(refused) == NOT_SIGNED_IN, spoiled
    openid.spoil = {}
    assert {user.username for user in await program.platform.accounts.list_users()} == {"jane", "john"}
    # New keys of the provider are looked up once more.
    openid.new_key()
    assert (await Browser(program).sign_in(openid, sub="u1", groups=["staff"])).status == 302


async def test_answers_of_other_sign_ins_are_refused(provider: tuple[Program, OpenIdProvider]) -> None:
    program, openid = provider
    mine, theirs = Browser(program), Browser(program)
    claims = {"sub": "u1", "groups": ["staff"]}
    attackers = openid.sign_in(await theirs.begin(), **claims)
    assert error(await Browser(program).complete(attackers)) == NOT_SIGNED_IN, "no cookie"
    await mine.begin()
    assert error(await mine.complete(attackers)) == NOT_SIGNED_IN, "another state"
    own = openid.sign_in(await mine.begin(), **claims)
    assert error(await mine.complete({**own, "code": attackers["code"]})) == NOT_SIGNED_IN, "another's code: PKCE"
    late = openid.sign_in(await mine.begin(), **claims)
    program.clock.advance(601)
    assert error(await mine.complete(late)) == NOT_SIGNED_IN, "too late"
    told = await mine.complete({"error": "access_denied", "state": "x"})
    assert error(told) == NOT_SIGNED_IN
    assert "access_denied" in message(told)
    assert error(await mine.complete({"code": "x"})) == (400, "invalid-request")
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example"):
        url = await mine.begin(f"?{urlencode({'returnTo': elsewhere})}")
        answer = await mine.complete(openid.sign_in(url, **claims))
        assert answer.headers["Location"] == "/actorium/session", elsewhere


async def test_names_of_new_users_lead_into_nobodys_account(provider: tuple[Program, OpenIdProvider]) -> None:
    program, openid = provider
    names = []
    for subject, given in (("u1", {"preferred_username": "jane"}), ("u2", {"email": "jane@example.org"}), ("u3", {})):
        browser = Browser(program)
        await browser.sign_in(openid, sub=subject, groups=["staff"], **given)
        names.append((await browser.session())["username"])
    assert names == ["jane-2", "jane-3", "user"]


async def test_a_provider_that_is_away_is_said_to_be(tmp_path: Path, database_url: str) -> None:
    program = Program(tmp_path / "data", database_url, oidc_issuer_url="http://127.0.0.1:9", oidc_client_id="x")
    await program.start()
    answer = await program.request("GET", OIDC, token=None)
    assert error(answer) == NOT_SIGNED_IN
    assert "does not answer" in message(answer)
    await program.stop()


async def test_without_settings_nobody_signs_in_so(program: Program) -> None:
    ways = await program.request("GET", "/actorium/sign-in", token=None)
    assert json.loads(ways.body)["data"] == {"oidcUrl": None, "headerUrl": None}
    assert error(await program.request("GET", OIDC, token=None)) == (404, "record-not-found")
    answer = await program.request("POST", HEADER, None, {"X-Forwarded-User": "jane"}, None)
    assert error(answer) == NOT_SIGNED_IN


@pytest.mark.parametrize(("proxies", "trusted"), [("127.0.0.0/8, ::1", True), ("10.0.0.0/8", False)])
async def test_a_proxy_says_who_the_user_is(tmp_path: Path, database_url: str, proxies: str, *, trusted: bool) -> None:
    program = Program(
        tmp_path / "data",
        database_url,
        sign_in_header="X-Forwarded-User",
        sign_in_groups_header="X-Forwarded-Groups",
        sign_in_proxies=proxies,
        admin_groups="admins",
    )
    await program.start()
    headers = {"X-Forwarded-User": "jane", "X-Forwarded-Groups": "staff, admins", "X-Forwarded-For": "10.0.0.1"}
    browser = Browser(program)
    answer = await browser.send("POST", HEADER, headers)
    if trusted:
        assert answer.status == 200, answer.body
        session = await browser.session()
        assert (session["username"], session["role"]) == ("jane", "ADMIN")
        new = Browser(program)
        await new.send("POST", HEADER, {"X-Forwarded-User": "newcomer"})
        assert (await new.session())["role"] == "USER"
        assert error(await new.send("POST", HEADER, {"X-Forwarded-User": "no/name"}))[0] == 400
    else:
        assert error(answer) == NOT_SIGNED_IN
    # It signs in and does nothing else, and no Actor and no handler sees it.
    assert (await program.request("GET", "/v2/users/me", None, headers, None)).status == 401
    echo = await program.request("GET", "/v2/browser-info?rawHeaders=1", None, headers, None)
    assert b"forwarded-user" not in echo.body.lower()
    await program.stop()
