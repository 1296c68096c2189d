"""The whole program in the test's own event loop, on a clock the test moves: everything but the engine is running."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import uvicorn

from actorium.app.platform import Platform
from actorium.domain.models import Actor, JobStatus, Meta, Run, Task
from actorium.services.access import Principal
from actorium.services.run_options import StartOptions
from actorium.settings import load_settings
from actorium.storage import builds, catalog, jobs, tasks
from actorium.storage.db import Tx
from fakes.builds import finished_build
from fakes.clock import FakeClock
from support.storage_server import Answer, Wire, data

ACTOR_ID = "actoractoractoract"[:17]
TASK_ID = "tasktasktasktaskt"


class Program(Wire):
    """A server with the users jane and john, whose tokens are ``jane-token-of-tests`` and the like.

    Runs stay in READY, as nothing starts them. ``restart`` goes on with the same data; ``crash`` keeps nothing that
    is only in memory.
    """

    def __init__(self, data_dir: Path, database_url: str, **settings: object) -> None:
        self.clock = FakeClock()
        self._settings = load_settings({"data_dir": str(data_dir), "database_url": database_url, **settings}, {})
        self.platform: Platform
        self.people: dict[str, Principal] = {}

    async def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.platform = Platform(self._settings, self.url, self.clock)
        await self.platform.db.start()
        await self.platform.blobs.start()
        await self.platform.logs.start()
        # A call that waits for the clock must not keep a failed test from ending.
        config = uvicorn.Config(
            self.platform.application,
            lifespan="off",
            log_config=None,
            http="httptools",
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        if not self.people:
            await self._populate()

    async def _populate(self) -> None:
        for name in ("jane", "john"):
            user = await self.platform.accounts.add_user(name)
            token, _ = await self.platform.accounts.create_token(name, "tests", token=f"{name}-token-of-tests")
            self.people[name] = Principal(user.id, name, token.id)
        now, jane = self.clock.now_ms(), self.people["jane"]
        actor = Actor(ACTOR_ID, jane.user_id, "counter", now, now, {"build": "latest"}, {})
        version = {
            "sourceType": "SOURCE_FILES",
            "versionNumber": "0.1",
            "buildTag": "latest",
            "sourceUrl": None,
            "applyEnvVarsToBuild": False,
        }
        build = finished_build(actor, now, version)

        task = Task(TASK_ID, jane.user_id, actor.id, "counter-task", now, now, None, None, {"title": "Counter Task"})

        async def op(tx: Tx) -> None:
            await catalog.insert_actor(tx, actor)
            await tasks.insert_task(tx, task)
            await builds.insert_build(tx, build)
            await builds.set_tag(tx, actor.id, "latest", build.id)

        await self.platform.db.write("populate", op)

    async def crash(self) -> None:
        """End without writing down what is only in memory."""
        self._server.should_exit = True
        await self._serving
        await self.platform.logs.stop()
        await self.platform.blobs.stop()
        await self.platform.db.stop()

    async def stop(self) -> None:
        await self.platform.reads.stop()
        await self.crash()

    async def run(self, status: JobStatus = JobStatus.READY, origin: str = "API", **columns: Any) -> Run:
        """A run of jane's with these columns, a millisecond later than any before."""
        self.clock.advance(0.001)
        asked = StartOptions(memory_mbytes=1024)
        run = await self.platform.starts.start(self.people["jane"], ACTOR_ID, asked, None, Meta(origin))

        async def op(tx: Tx) -> Run | None:
            if columns:
                await jobs.update(tx, run.id, **columns)
            if status is not JobStatus.READY:
                await jobs.transition(tx, run.id, {JobStatus.READY}, JobStatus.RUNNING)
            if status not in (JobStatus.READY, JobStatus.RUNNING):
                await jobs.transition(tx, run.id, {JobStatus.RUNNING}, status)
            return await jobs.get_run(tx, run.id)

        made = await self.platform.db.write("prepare run", op)
        assert made is not None
        return made

    def token(self, who: str | Run | None) -> str | None:
        """The token of a user or run."""
        if isinstance(who, Run):
            return self.platform.access.run_token(who.id)
        return None if who is None else f"{who}-token-of-tests"

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        by: str | Run | None = "jane",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """A call below ``/v2``, with JSON where ``body`` is not bytes."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        kind = {} if raw is None else {"Content-Type": "application/json"}
        return await self.request(method, f"/v2{path}", raw, {**kind, **(headers or {})}, self.token(by))

    async def ask(self, method: str, path: str, body: Any = None, *, by: str | Run | None = "jane") -> Any:
        """The ``data`` of a call that works; what it says, where it has no ``data``; ``None`` for 204."""
        answer = await self.send(method, path, body, by=by)
        assert answer.status < 300, answer.body
        if not answer.body or "json" not in answer.headers["Content-Type"]:
            return answer.body or None
        value = json.loads(answer.body)
        return data(answer) if isinstance(value, dict) and "data" in value else value
