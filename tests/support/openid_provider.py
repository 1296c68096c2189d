"""A small OpenID Connect provider: discovery, keys, and tokens for codes, with PKCE held to."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "actorium", "secret-of-the-client"


class OpenIdProvider:
    """Signs everybody in at once. ``spoil`` are claims that its ID tokens have instead of the right ones."""

    def __init__(self, now_ms: Any) -> None:
        self._now_ms = now_ms
        self.new_key()
        self.spoil: dict[str, Any] = {}
        self.calls: list[str] = []
        self._codes: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}

    def new_key(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": f"key-{id(object())}"}, auto_kid=True)

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/.well-known/openid-configuration", self._configuration)
        application.router.add_get("/keys", self._keys)
        application.router.add_post("/token", self._token)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    def sign_in(self, authorization_url: str, **claims: Any) -> dict[str, str]:
        """What a browser comes back with whose user has signed in: the parameters of the redirect."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(authorization_url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{len(self._codes)}"
        self._codes[code] = (asked, claims)
        return {"code": code, "state": asked["state"]}

    async def _configuration(self, _request: web.Request) -> web.Response:
        self.calls.append("configuration")
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
            }
        )

    async def _keys(self, _request: web.Request) -> web.Response:
        self.calls.append("keys")
        return web.json_response({"keys": [self.key.as_dict(private=False)]})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked, claims = self._codes.pop(str(form["code"]), ({}, {}))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        if (
            not asked
            or form["client_secret"] != CLIENT_SECRET
            or form["redirect_uri"] != asked["redirect_uri"]
            or challenge.rstrip(b"=").decode() != asked["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = self._now_ms() // 1000
        told = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            **claims,
            **self.spoil,
        }
        token = jwt.encode({"alg": "RS256", "kid": self.key.kid}, told, self.key)
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": token})
