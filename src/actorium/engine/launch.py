"""Starting an attempt: what the process gets, and the transaction that makes the run RUNNING."""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.environment import Surroundings, run_environment
from actorium.domain.input_schemas.validation import has_secrets
from actorium.domain.input_secrets import key_variables
from actorium.domain.models import Actor, Build, Debug, JobStatus, Run, RunStats, Wanted
from actorium.domain.standby import START_MS
from actorium.domain.times import iso, iso_or_none
from actorium.engine.parts import Parts
from actorium.engine.ports import LOOPBACK, NoPortError, free_port
from actorium.kit import new_id
from actorium.runtimes import Exit, Handle, Image, RunSpec, StartError
from actorium.storage import accounts, builds, catalog, input_keys, jobs, web_servers
from actorium.storage.db import Tx
from actorium.storage.input_keys import StoredKeys

_MIN_BUDGET_MS = 1000
_LOWEST_PORT, _HIGHEST_PORT = 1024, 65_535
_OWN_WEB_SERVER_PORT = 4321
"""Of a process with a network of its own. docs: runs, section 5."""


class LostRaceError(Exception):
    """Something else was asked of the run before its process existed; nothing was started."""


class Ended(msgspec.Struct, frozen=True):
    """The attempt before: written down in the same transaction as its successor."""

    attempt_id: str
    finished_at: int
    exit: Exit


class Launched(msgspec.Struct, frozen=True):
    """A started attempt and the run as it is since."""

    handle: Handle
    run: Run
    started_at: int


class _Surroundings(msgspec.Struct, frozen=True):
    actor: Actor
    build: Build
    image: Image
    username: str
    build_tags: tuple[str, ...]
    ports_in_use: set[int]
    keys: StoredKeys | None
    api_base_url: str = ""
    web_server_port: int = 0


async def launch(parts: Parts, run: Run, stats: RunStats, ended: Ended | None, idle_since: int | None) -> Launched:
    """Start the next attempt of ``run``.

    ``stats`` already counts why; ``idle_since`` is when the attempt before ended (the time between does
    not use up the time budget). Raises ``StartError``, or ``LostRaceError`` when an abort or the like came first.
    """
    around = await _read(parts, run)
    network = parts.networks.get(around.image.kind)
    api_base_url = await network.api_base_url() if network is not None else parts.settings.api_base_url
    asked_port = _own_port(around.build)
    try:
        # Behind a network of its own, a process has every port for itself.
        with parts.ports.reserved(around.ports_in_use, asked_port if network is None else None) as port:
            inner_port = port if network is None else asked_port or _OWN_WEB_SERVER_PORT
            around = msgspec.structs.replace(around, api_base_url=api_base_url, web_server_port=inner_port)
            return await _launch(parts, run, stats, ended, idle_since, around, port)
    except NoPortError as error:
        raise StartError(str(error)) from error


async def _launch(
    parts: Parts,
    run: Run,
    stats: RunStats,
    ended: Ended | None,
    idle_since: int | None,
    around: _Surroundings,
    port: int,
) -> Launched:
    now = parts.clock.now_ms()
    timeout_at = _timeout_at(run, now, idle_since)
    own = {var.name: parts.open_secret(var.value) if var.is_secret else var.value for var in around.build.env_vars}
    spec = RunSpec(
        run_id=run.id,
        attempt_id=new_id(),
        image=around.image,
        env=_environment(parts, run, around, timeout_at, own),
        memory_mbytes=run.options.memory_mbytes,
        disk_mbytes=run.options.disk_mbytes,
        published_port=port,
        shared_env=own,
        debug=_debug(run),
    )
    running: Run | None = None

    async def checkpoint(handle: Handle) -> None:
        nonlocal running
        fields: dict[str, Any] = {
            "running_at": now,
            "timeout_at": timeout_at,
            "stats": stats,
            "web_server_host": LOOPBACK,
            "web_server_port": port,
            "is_container_server_ready": False,
            "idle_at": None if run.standby is None else now + START_MS + run.standby.idle_timeout_secs * 1000,
        }

        async def op(tx: Tx) -> Run | None:
            before = await jobs.get_run(tx, run.id, for_update=True)
            if before is None or _asked(before) != _asked(run):
                return None
            if run.status is JobStatus.READY:
                current = await jobs.transition(tx, run.id, {JobStatus.READY}, JobStatus.RUNNING, **fields)
            else:
                fields.update(wanted=Wanted.RUN, stop_at=None)
                current = await jobs.update(tx, run.id, {JobStatus.RUNNING}, **fields)
            if current is not None:
                if ended is not None:
                    await jobs.finish_attempt(tx, ended.attempt_id, ended.finished_at, msgspec.to_builtins(ended.exit))
                await jobs.insert_attempt(tx, spec.attempt_id, run.id, now, handle)
            return current

        running = await parts.db.write("launch attempt", op)
        if running is None:
            raise LostRaceError

    try:
        handle = await parts.runtime.start(spec, checkpoint)
    except StartError as error:
        if running is not None:
            await _note_failed_start(parts, spec.attempt_id, str(error))
        raise
    if running is None:
        raise AssertionError("the runtime started an attempt without a checkpoint")
    if spec.debug is not None:
        waits = ", which the Actor waits for" if spec.debug.waits else ""
        await parts.logs.platform_line(
            run.id, now, f"ACTOR: A debugger can be attached at {LOOPBACK}:{spec.debug.port}{waits}."
        )
    return Launched(handle, running, now)


async def _note_failed_start(parts: Parts, attempt_id: str, reason: str) -> None:
    """Write an attempt down as ended that the database knows already and that never came about."""
    now, exit_ = parts.clock.now_ms(), Exit(error=f"cannot start: {reason}")

    async def op(tx: Tx) -> None:
        await jobs.finish_attempt(tx, attempt_id, now, msgspec.to_builtins(exit_))

    await parts.db.write("attempt did not start", op)


def _asked(run: Run) -> tuple[Any, ...]:
    return run.status, run.wanted, run.stop_at, run.build_id


async def _read(parts: Parts, run: Run) -> _Surroundings:
    async def op(tx: Tx) -> _Surroundings:
        build = await builds.get_build(tx, run.build_id)
        actor = await catalog.get_actor(tx, run.actor_id)
        user = await accounts.get_user(tx, run.user_id)
        if build is None:
            raise StartError(f"build {run.build_number} was deleted")
        if build.image_kind is None or build.image_state is None:
            raise StartError(f"build {run.build_number} has no image")
        if actor is None or user is None:
            raise StartError("the Actor was deleted")
        tags = await builds.list_tags(tx, run.actor_id)
        of_build = tuple(sorted(tag for tag, tagged in tags.items() if tagged == build.id))
        return _Surroundings(
            actor=actor,
            build=build,
            image=Image(build.image_kind, build.image_state),
            username=user.username,
            build_tags=of_build,
            ports_in_use=await web_servers.ports_in_use(tx),
            keys=await input_keys.get(tx, run.user_id, run.actor_id) if has_secrets(build.input_schema) else None,
        )

    return await parts.db.read("read for launch", op)


async def open_log(parts: Parts, run: Run) -> None:
    """Open a run's log with its secrets masked. They are not stored with the log, so every server does it anew."""

    async def op(tx: Tx) -> Build | None:
        return await builds.get_build(tx, run.build_id)

    build = await parts.db.read("secrets of run", op)
    own = [parts.open_secret(var.value) for var in build.env_vars if var.is_secret] if build is not None else []
    parts.logs.open(run.id, (parts.run_token(run.id), *own, *_secrets_of_input(parts, run)))


def _secrets_of_input(parts: Parts, run: Run) -> list[str]:
    if run.sealed_secrets is None:
        return []
    return msgspec.json.decode(parts.open_secret(run.sealed_secrets), type=list[str])


def _input_keys(parts: Parts, stored: StoredKeys | None) -> dict[str, str]:
    return {} if stored is None else key_variables(parts.open_secret(stored.sealed))


def _environment(
    parts: Parts, run: Run, around: _Surroundings, timeout_at: int | None, own: dict[str, str]
) -> dict[str, str]:
    token = parts.run_token(run.id)
    secrets = [own[var.name] for var in around.build.env_vars if var.is_secret]
    keys = _input_keys(parts, around.keys)
    parts.logs.open(run.id, (token, *secrets, *keys.values(), *_secrets_of_input(parts, run)))
    return run_environment(
        run,
        Surroundings(
            api_base_url=around.api_base_url,
            public_base_url=parts.settings.public_base_url,
            events_url=parts.events_url(run, around.api_base_url),
            token=token,
            username=around.username,
            actor_name=around.actor.name,
            permission_level=run.permission_level,
            build_tags=around.build_tags,
            web_server_port=around.web_server_port,
            web_server_url=parts.addresses.container_url(run.container_slug),
            standby_url=parts.addresses.standby_url(run.actor_id, around.username, around.actor.name),
            started_at=iso(run.started_at),
            timeout_at=iso_or_none(timeout_at),
            input_keys=keys,
        ),
        own,
    )


def _timeout_at(run: Run, now: int, idle_since: int | None) -> int | None:
    # A budget of the run, not of the process: what is left goes on to the next attempt.
    if run.options.timeout_secs == 0:
        return None
    if run.timeout_at is None:
        return now + run.options.timeout_secs * 1000
    left = run.timeout_at - (idle_since if idle_since is not None else now)
    return now + max(left, _MIN_BUDGET_MS)


def _debug(run: Run) -> Debug | None:
    """The run's debugger with a port, a free one where none is asked for."""
    debug = run.options.debug
    return Debug(free_port(), debug.waits) if debug is not None and debug.port == 0 else debug


def _own_port(build: Build) -> int | None:
    """The port a version's own variables name for the web server. docs: runs, section 5."""
    own = {var.name: var.value for var in build.env_vars if not var.is_secret}
    text = own.get("ACTOR_WEB_SERVER_PORT") or own.get("ACTOR_STANDBY_PORT") or ""
    return int(text) if text.isdecimal() and _LOWEST_PORT <= int(text) <= _HIGHEST_PORT else None
