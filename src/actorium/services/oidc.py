"""What an OpenID Connect provider is asked: where to send users, and who has come back. OpenID Connect Core 1.0."""

from __future__ import annotations

import base64
import hashlib
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from actorium.domain.errors import sign_in_failed
from actorium.kit import Clock

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a provider's own key. Neither "none" nor what whoever knows the client's secret could make."""
_METADATA_MS = 3_600_000
_LEEWAY_SECS = 60
_TIMEOUT = aiohttp.ClientTimeout(total=15)
_MAX_ANSWER_BYTES = 2**20


class OidcProvider:
    """A provider and this server's registration with it. Its metadata and keys are kept for an hour."""

    def __init__(self, issuer: str, client_id: str, client_secret: str, scopes: str, clock: Clock) -> None:
        self.issuer = issuer.rstrip("/")
        self._client_id = client_id
        self._client_secret = client_secret
        self._scopes = " ".join(dict.fromkeys(["openid", *scopes.split()]))
        self._clock = clock
        self._metadata: tuple[int, dict[str, Any]] | None = None
        self._keys: KeySet | None = None

    async def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str) -> str:
        """Where the user signs in. ``verifier`` is PKCE's (RFC 7636)."""
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = urlencode(
            {
                "response_type": "code",
                "client_id": self._client_id,
                "redirect_uri": redirect_uri,
                "scope": self._scopes,
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge,
                "code_challenge_method": "S256",
            }
        )
        endpoint = (await self._get_metadata())["authorization_endpoint"]
        return f"{endpoint}{'&' if urlsplit(endpoint).query else '?'}{query}"

    async def claims(self, code: str, redirect_uri: str, nonce: str, verifier: str) -> dict[str, Any]:
        """What the provider says of the user who came back with ``code``. Raises 401 ``user-not-authenticated``."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self._client_id,
            "code_verifier": verifier,
        }
        if self._client_secret:
            form["client_secret"] = self._client_secret
        answer = await self._call("POST", (await self._get_metadata())["token_endpoint"], form)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise sign_in_failed("the identity provider gave no ID token.")
        try:
            claims = await self._verified(token, nonce)
        except (JoseError, ValueError) as error:
            raise sign_in_failed(f"the ID token is not valid: {error}") from error
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise sign_in_failed("the ID token does not say who the user is.")
        return claims

    async def _verified(self, token: str, nonce: str) -> dict[str, Any]:
        try:
            decoded = jwt.decode(token, await self._get_keys(), algorithms=_ALGORITHMS)
        except (JoseError, ValueError):
            # The provider may have new keys.
            self._metadata = self._keys = None
            decoded = jwt.decode(token, await self._get_keys(), algorithms=_ALGORITHMS)
        registry = jwt.JWTClaimsRegistry(
            now=self._clock.now_ms() // 1000,
            leeway=_LEEWAY_SECS,
            iss={"essential": True, "value": self.issuer_as_told},
            aud={"essential": True, "value": self._client_id},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        registry.validate(decoded.claims)
        return dict(decoded.claims)

    @property
    def issuer_as_told(self) -> str:
        """The issuer as the provider spells it, with a slash at its end or without."""
        return self.issuer if self._metadata is None else str(self._metadata[1]["issuer"])

    async def _get_metadata(self) -> dict[str, Any]:
        now = self._clock.now_ms()
        if self._metadata is None or now - self._metadata[0] >= _METADATA_MS:
            found = await self._call("GET", f"{self.issuer}/.well-known/openid-configuration")
            if str(found.get("issuer", "")).rstrip("/") != self.issuer:
                raise sign_in_failed(
                    f"the identity provider calls itself {found.get('issuer')!r:.200}, not {self.issuer}."
                )
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not str(found.get(name, "")).startswith(("https://", "http://")):
                    raise sign_in_failed(f"the identity provider's configuration has no {name}.")
            self._metadata, self._keys = (now, found), None
        return self._metadata[1]

    async def _get_keys(self) -> KeySet:
        metadata = await self._get_metadata()
        if self._keys is None:
            self._keys = KeySet.import_key_set(await self._call("GET", metadata["jwks_uri"]))  # type: ignore[arg-type]
        return self._keys

    async def _call(self, method: str, url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.request(
                    method, url, data=form, headers={"Accept": "application/json"}, allow_redirects=False
                ) as answer,
            ):
                raw = await answer.content.read(_MAX_ANSWER_BYTES)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise sign_in_failed(f"the identity provider does not answer ({type(error).__name__}).") from error
        if answer.status != 200:
            raise sign_in_failed(
                f"the identity provider answered {method} {urlsplit(url).path} with status {answer.status}."
            )
        try:
            return msgspec.json.decode(raw, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise sign_in_failed("the identity provider's answer is not JSON.") from error
