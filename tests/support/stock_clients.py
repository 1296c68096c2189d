"""The stock Python client in both forms, used in one way: a test is written once and runs with each."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from apify_client import ApifyClient, ApifyClientAsync

FORMS = ("sync", "async")
_ASYNC_NAMES = {"read": "aread", "iter_bytes": "aiter_bytes"}


class Settled:
    """An object of the async client that is used like its sync twin: every call returns what it led to."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, self._name(name))
        if not callable(found):
            return found

        async def settled(*args: Any, **kwargs: Any) -> Any:
            value = found(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._usable(self._runner.run(settled(*args, **kwargs)))

        return call

    def _name(self, name: str) -> str:
        other = _ASYNC_NAMES.get(name, name)
        return other if hasattr(self._target, other) else name

    def _usable(self, value: Any) -> Any:
        if hasattr(value, "__anext__"):
            return self._iterate(value)
        if hasattr(value, "__aenter__"):
            return self._entered(value)
        return Settled(value, self._runner) if type(value).__name__.endswith("ClientAsync") else value

    def _iterate(self, values: Any) -> Iterator[Any]:
        async def following() -> list[Any]:
            try:
                return [await anext(values)]
            except StopAsyncIteration:
                return []

        while found := self._runner.run(following()):
            yield found[0]

    @contextmanager
    def _entered(self, manager: Any) -> Iterator[Any]:
        async def enter() -> Any:
            return await manager.__aenter__()

        async def leave() -> None:
            await manager.__aexit__(None, None, None)

        value = self._runner.run(enter())
        try:
            if isinstance(value, dict):
                yield {**value, "value": Settled(value["value"], self._runner)}
            else:
                yield None if value is None else Settled(value, self._runner)
        finally:
            self._runner.run(leave())


@contextmanager
def stock_clients(form: str, url: str) -> Iterator[Callable[[str | None], Any]]:
    """A function that makes clients of ``form`` for a token, ``None`` for an anonymous one. They never retry."""
    options: dict[str, Any] = {"api_url": url, "api_public_url": url, "max_retries": 0}
    if form == "sync":
        yield lambda token: ApifyClient(token, **options)
        return
    with asyncio.Runner() as runner:
        yield lambda token: Settled(ApifyClientAsync(token, **options), runner)


def body_of(streamed: AbstractContextManager[Any]) -> bytes:
    """All bytes of a streamed answer."""
    with streamed as response:
        body: bytes = b"".join(response.iter_bytes())
    return body
