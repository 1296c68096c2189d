"""Tokens of users: last use, rotation, expiry."""

from __future__ import annotations

import pytest

from actorium.domain.errors import ApiError
from support.program import Program

DAY_SECS = 24 * 3600


async def status(program: Program, token: str) -> int:
    return (await program.request("GET", "/v2/users/me", token=token)).status


async def test_the_last_use_is_kept_to_the_minute(program: Program) -> None:
    accounts = program.platform.accounts
    created, secret = await accounts.create_token("jane", "laptop")

    async def last_used_at() -> int | None:
        return next(token for token in await accounts.list_tokens("jane") if token.id == created.id).last_used_at

    assert await last_used_at() is None
    first = program.clock.now_ms()
    assert await status(program, secret) == 200
    assert await last_used_at() == first
    program.clock.advance(59)
    assert await status(program, secret) == 200
    assert await last_used_at() == first
    program.clock.advance(6)
    assert await status(program, secret) == 200
    assert await last_used_at() == first + 65_000
    assert await status(program, secret + "x") == 401


@pytest.mark.parametrize("by_text", [True, False])
async def test_a_rotated_token_works_for_another_day(program: Program, *, by_text: bool) -> None:
    accounts = program.platform.accounts
    created, old = await accounts.create_token("jane", "ci")
    _, new = await accounts.rotate_token(old if by_text else created.id)
    assert new != old
    assert [await status(program, token) for token in (old, new)] == [200, 200]
    assert [token.name for token in await accounts.list_tokens("jane")].count("ci") == 2
    program.clock.advance(DAY_SECS - 1)
    assert await status(program, old) == 200
    program.clock.advance(6)
    assert [await status(program, token) for token in (old, new)] == [401, 200]
    with pytest.raises(ApiError, match="Token was not found"):
        await accounts.rotate_token(old)


async def test_rotation_prolongs_nothing(program: Program) -> None:
    accounts = program.platform.accounts
    soon = program.clock.now_ms() + 10_000
    _, old = await accounts.create_token("jane", "short", expires_at=soon)
    await accounts.rotate_token(old)
    program.clock.advance(16)
    assert await status(program, old) == 401
    for wrong in ("nothing-of-this-kind", "x" * 17):
        with pytest.raises(ApiError, match="Token was not found"):
            await accounts.rotate_token(wrong)
