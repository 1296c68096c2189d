"""Standby servers: which one a name means, which runs it has, and that it shall have more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from actorium.domain.actors import DEFAULT_STANDBY
from actorium.domain.errors import ApiError, ErrorType, not_found
from actorium.domain.inputs import RunInput
from actorium.domain.models import Actor, Meta, Origin, Run, StandbyTerms, Task, User
from actorium.domain.permissions import PermissionLevel, resolved_level
from actorium.domain.standby import StandbyConfig, StandbyRun, standby_config
from actorium.domain.tasks import as_run_input
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.permissions import insufficient
from actorium.services.run_options import StartOptions
from actorium.services.token_scopes import may_use_standby
from actorium.storage import standby
from actorium.storage.db import Database, Tx

_CACHE_SECS = 1.0
_CACHE_SIZE = 10_000


class StandbyServer(msgspec.Struct, frozen=True):
    """The Standby server of an Actor or task for one user, and its configuration now."""

    user_id: str
    username: str
    actor_id: str
    task_id: str | None
    task_input: RunInput | None
    config: StandbyConfig
    level: PermissionLevel

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What tells it from all others."""
        return self.user_id, self.actor_id, self.task_id

    @property
    def terms(self) -> StandbyTerms:
        """How many requests a run takes, and how long it stays without any."""
        return self.config.terms


class ActorLookup(Protocol):
    """The part of the Actors service this needs."""

    async def resolve(self, principal: Principal | None, reference: str) -> Actor:
        """The Actor a reference means. Raises 404."""
        ...


class TaskLookup(Protocol):
    """The part of the tasks service this needs."""

    async def resolve(self, principal: Principal, reference: str) -> Task:
        """The caller's task a reference means. Raises 404."""
        ...


class RunStarting(Protocol):
    """The part of the start of runs this needs."""

    async def start(
        self,
        principal: Principal,
        actor_reference: str,
        asked: StartOptions,
        body: RunInput | None,
        meta: Meta,
        *,
        task_id: str | None = None,
        standby: StandbyTerms | None = None,
        with_input: bool = True,
    ) -> Run:
        """Write a new run down as READY."""
        ...


class Standby:
    """The service of Standby servers. It asks for runs; the engine starts and ends them."""

    def __init__(
        self, db: Database, clock: Clock, actors: ActorLookup, task_lookup: TaskLookup, starts: RunStarting, most: int
    ) -> None:
        self._db = db
        self._clock = clock
        self._actors = actors
        self._tasks = task_lookup
        self._starts = starts
        self._most_runs = most
        self._cache: dict[tuple[str, str, bool], tuple[float, StandbyServer]] = {}
        self._starting: dict[tuple[str, str, str | None], asyncio.Lock] = {}

    async def find(self, principal: Principal, name: str, *, is_host_name: bool) -> StandbyServer:
        """The server that the first part of a host name, or a reference in a path, means to the caller.

        Raises 404 ``record-not-found``, 400 ``standby-not-enabled`` or 403 ``insufficient-permissions``. What was
        found is kept for a second.
        """
        key, now = (principal.user_id, name, is_host_name), time.monotonic()
        cached = self._cache.get(key)
        if cached is not None and now - cached[0] < _CACHE_SECS:
            server = cached[1]
        else:
            server = await self._look_up(principal, name, is_host_name=is_host_name)
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = (now, server)
        if principal.scope is not None and server.level is not PermissionLevel.LIMITED:
            raise insufficient("a run with limited permissions may call only Actors with limited permissions.")
        if principal.held is not None and not may_use_standby(principal.held.scope, server.actor_id, server.task_id):
            raise insufficient("the scope of this token does not allow the use of this Standby server.")
        return server

    async def _look_up(self, principal: Principal, name: str, *, is_host_name: bool) -> StandbyServer:
        references = await self._references(name) if is_host_name else [name]
        actor, task = await self._resolve(principal, references)
        config = standby_config(actor, task, DEFAULT_STANDBY)
        if not config.is_enabled:
            raise ApiError(
                ErrorType.STANDBY_NOT_ENABLED,
                f"Standby is not enabled for this {'Actor' if task is None else 'task'}: set actorStandby.isEnabled.",
            )
        return StandbyServer(
            user_id=principal.user_id,
            username=principal.username,
            actor_id=actor.id,
            task_id=task.id if task is not None else None,
            task_input=as_run_input(task.input) if task is not None and task.input else None,
            config=config,
            level=resolved_level(None, actor.default_run_options, actor.fields.get("actorPermissionLevel")),
        )

    async def _resolve(self, principal: Principal, references: Sequence[str]) -> tuple[Actor, Task | None]:
        for reference in references:
            try:
                return await self._actors.resolve(principal, reference), None
            except ApiError as error:
                if error.type is not ErrorType.RECORD_NOT_FOUND:
                    raise
            try:
                task = await self._tasks.resolve(principal, reference)
            except ApiError as error:
                if error.type is not ErrorType.RECORD_NOT_FOUND:
                    raise
            else:
                return await self._actors.resolve(principal, task.actor_id), task
        raise not_found("Actor or task with this Standby server")

    async def _references(self, label: str) -> list[str]:
        """What ``<user>--<name>`` or an id in lower case may mean; a username may have hyphens in a row itself."""
        parts = label.split("--")
        splits = [("--".join(parts[:cut]), "--".join(parts[cut:])) for cut in range(1, len(parts))]

        async def op(tx: Tx) -> list[str]:
            found = []
            for dns_name, name in splits:
                users: Sequence[User] = await standby.list_users_by_dns_name(tx, dns_name)
                found += [f"{user.id}~{name}" for user in users if name]
            ids = (await standby.find_actor_id(tx, label), await standby.find_task_id(tx, label))
            return found + [one for one in ids if one is not None]

        return await self._db.read("Standby server by host name", op)

    async def runs(self, server: StandbyServer) -> Sequence[StandbyRun]:
        """The runs of a server that serve requests, or will once they are started."""

        async def op(tx: Tx) -> Sequence[StandbyRun]:
            return await standby.list_standby_runs(tx, server.actor_id, server.user_id, server.task_id)

        return await self._db.read("list Standby runs", op)

    async def want(self, server: StandbyServer, run_count: int) -> None:
        """See to it that the server has this many runs; raises what starting a run raises, if none could be."""
        async with self._starting.setdefault(server.key, asyncio.Lock()):
            missing = min(run_count, self._most_runs) - len(await self.runs(server))
            # Of the user, not of the run that may have sent the request: the server is not that run's child.
            owner = Principal(server.user_id, server.username, "standby")
            config = server.config
            asked = StartOptions(build=config.build, timeout_secs=0, memory_mbytes=config.memory_mbytes)
            starting = [
                self._starts.start(
                    owner,
                    server.actor_id,
                    asked,
                    server.task_input,
                    Meta(Origin.STANDBY),
                    task_id=server.task_id,
                    standby=config.terms,
                    with_input=config.passes_input,
                )
                for _ in range(missing)
            ]
            results = await asyncio.gather(*starting, return_exceptions=True)
            failed = [result for result in results if isinstance(result, BaseException)]
            if failed and len(failed) == len(results):
                raise failed[0]

    async def note_use(self, last_used: Mapping[str, tuple[int, int]]) -> None:
        """Note when runs were last at work, as ``{run id: (time, idle timeout in seconds)}``."""

        async def op(tx: Tx) -> None:
            for run_id, (used_at, idle_timeout_secs) in last_used.items():
                await standby.put_off_idle(tx, run_id, used_at + idle_timeout_secs * 1000, used_at)

        await self._db.write("note use of Standby runs", op)

    def now_ms(self) -> int:
        """The time ``note_use`` counts in."""
        return self._clock.now_ms()
