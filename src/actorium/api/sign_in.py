"""Signing in with a browser, and the session: an extension below ``/actorium``."""

from __future__ import annotations

from typing import Any

from starlette.responses import RedirectResponse, Response

from actorium.api.account import profile_of
from actorium.api.http import SESSION_COOKIE, SESSION_OPERATION, Call, Route, cookie_of, data_response
from actorium.api.identity_headers import IDENTITY
from actorium.domain.audit import Caller
from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.models import User
from actorium.services.accounts import Accounts
from actorium.services.audit_log import AuditLog
from actorium.services.sign_in import FLOW_SECS, SignIn

_FLOW_COOKIE = "actorium_sign_in"
_OIDC = "/actorium/sign-in/oidc"
_CALLBACK = f"{_OIDC}/callback"


class SignInRoutes:
    """Handlers of signing in and out. ``by_header``: whether a proxy in front may say who the user is."""

    def __init__(self, sign_in: SignIn, users: Accounts, audit_log: AuditLog, *, by_header: bool) -> None:
        self._sign_in = sign_in
        self._users = users
        self._audit_log = audit_log
        self._by_header = by_header

    def routes(self) -> list[Route]:
        """All routes of this module."""
        return [
            Route("GET", "/actorium/sign-in", "actorium_signIn_get", self.ways, public=True),
            Route("GET", _OIDC, "actorium_signIn_oidc_get", self.begin, public=True),
            Route("GET", _CALLBACK, "actorium_signIn_callback_get", self.complete, public=True),
            Route("POST", "/actorium/sign-in/header", "actorium_signIn_header_post", self.header, public=True),
            Route("GET", "/actorium/session", SESSION_OPERATION, self.session),
            Route("DELETE", "/actorium/session", "actorium_session_delete", self.sign_out),
        ]

    async def ways(self, call: Call) -> Response:
        """How users can sign in here."""
        base = call.public_base_url
        return data_response(
            {
                "oidcUrl": f"{base}{_OIDC}" if self._sign_in.provider is not None else None,
                "headerUrl": f"{base}/actorium/sign-in/header" if self._by_header else None,
            }
        )

    async def begin(self, call: Call) -> Response:
        """Send the browser to the identity provider."""
        redirect_uri = f"{call.public_base_url}{_CALLBACK}"
        url, cookie = await self._sign_in.begin(redirect_uri, call.query.text("returnTo"))
        answer = RedirectResponse(url, 302)
        self._set(call, answer, _FLOW_COOKIE, cookie, FLOW_SECS, path=_OIDC)
        return answer

    async def complete(self, call: Call) -> Response:
        """Take the browser back from the identity provider."""
        if (problem := call.query.text("error")) is not None:
            described = call.query.text("error_description") or problem
            raise ApiError(ErrorType.USER_NOT_AUTHENTICATED, f"Sign-in failed: the provider said {described[:200]!r}.")
        code, state = call.query.text("code"), call.query.text("state")
        if code is None or state is None:
            raise invalid("Query parameters code and state are required.")
        with self._audit_log.call(_caller(call, None)):
            user, return_to = await self._sign_in.complete(
                cookie_of(call.headers, _FLOW_COOKIE), state, code, f"{call.public_base_url}{_CALLBACK}"
            )
        answer = RedirectResponse(return_to, 302)
        answer.delete_cookie(_FLOW_COOKIE, path=_OIDC, httponly=True, samesite="lax")
        await self._open(call, answer, user)
        return answer

    async def header(self, call: Call) -> Response:
        """Sign in as the proxy in front says."""
        found = call.request.scope.get(IDENTITY)
        if found is None:
            raise ApiError(
                ErrorType.USER_NOT_AUTHENTICATED,
                "Sign-in failed: the request did not come through a proxy that may say who the user is.",
            )
        username, groups = found
        with self._audit_log.call(_caller(call, None)):
            user = await self._sign_in.by_header(username, groups)
        answer = data_response({"id": user.id, "username": user.username})
        await self._open(call, answer, user)
        return answer

    async def session(self, call: Call) -> Response:
        """Who is signed in, and what calls with the cookie have to send in the header X-Actorium-CSRF."""
        user = await self._users.get_user(call.principal.user_id)
        token = call.session_token
        shape: dict[str, Any] = {
            "id": user.id,
            "username": user.username,
            "role": user.role,
            "profile": profile_of(user),
            "csrfToken": None if token is None else self._sign_in.csrf_token(token),
            "tokensUrl": f"{call.public_base_url}/actorium/tokens",
        }
        return data_response(shape, headers={"Cache-Control": "no-store"})

    async def sign_out(self, call: Call) -> Response:
        """End the session."""
        token = call.session_token
        if token is None:
            raise invalid("This call has no session: it was made with a token.")
        await self._sign_in.close_session(token)
        answer = Response(status_code=204)
        answer.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="lax")
        return answer

    async def _open(self, call: Call, answer: Response, user: User) -> None:
        with self._audit_log.call(_caller(call, user)):
            cookie = await self._sign_in.open_session(user)
        self._set(call, answer, SESSION_COOKIE, cookie, self._sign_in.session_secs, path="/")
        answer.headers["Cache-Control"] = "no-store"

    @staticmethod
    def _set(call: Call, answer: Response, name: str, value: str, secs: int, *, path: str) -> None:
        is_https = call.public_base_url.startswith("https://")
        answer.set_cookie(name, value, max_age=secs, path=path, secure=is_https, httponly=True, samesite="lax")


def _caller(call: Call, user: User | None) -> Caller:
    return Caller(
        user_id=None if user is None else user.id,
        username="" if user is None else user.username,
        token_id=None,
        operation=call.route.operation_id,
        client_ip=call.client_ip,
        user_agent=call.user_agent,
    )
