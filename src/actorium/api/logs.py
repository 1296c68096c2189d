"""Logs over HTTP: a snapshot, a download, or a stream that ends with the job. openapi: log_get, actorRun_log_get."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from actorium.api.http import Call, Route
from actorium.domain.log_lines import cleaned
from actorium.services.access import Principal


class LogFiles(Protocol):
    """The part of the log store this module needs."""

    def read_lines(self, job_id: str) -> AsyncGenerator[bytes, None]:
        """What the log holds now, in chunks of whole lines."""
        ...

    def follow(self, job_id: str, is_over: Callable[[], Awaitable[bool]]) -> AsyncGenerator[bytes, None]:
        """The log from its beginning in chunks of whole lines, until no more will come."""
        ...


class LogJobs(Protocol):
    """What this module asks about the run or build a log belongs to."""

    async def find_job(self, principal: Principal | None, job_id: str) -> str:
        """The id of a run or build that ``principal`` may read. Raises 404 ``record-not-found``."""
        ...

    async def is_over(self, job_id: str) -> bool:
        """Whether a run or build is finished or gone."""
        ...


class Logs:
    """Serves logs; the runs' and builds' own log routes use ``log_response`` too."""

    def __init__(self, files: LogFiles, jobs: LogJobs) -> None:
        self._files = files
        self._jobs = jobs

    def routes(self) -> list[Route]:
        """The routes of the resource ``logs``. Public: whether a token is needed depends on the job."""
        return [Route("GET", "/v2/logs/{buildOrRunId}", "log_get", self._get, public=True, verbatim=True)]

    async def _get(self, call: Call) -> Response:
        job_id = await self._jobs.find_job(call.principal_or_none, call.path["buildOrRunId"])
        return await self.log_response(call, job_id, f"{job_id}.log")

    async def log_response(self, call: Call, job_id: str, file_name: str) -> Response:
        """The log of a job the caller may read, as the query's ``stream``, ``download`` and ``raw`` ask for it."""
        is_raw = call.query.flag("raw")
        is_stream = call.query.flag("stream")
        headers = {"x-content-type-options": "nosniff"}
        if call.query.flag("download"):
            headers["content-disposition"] = f'attachment; filename="{file_name}"'
        if is_stream:
            headers |= {"cache-control": "no-store", "x-accel-buffering": "no"}

        def chunks() -> AsyncGenerator[bytes, None]:
            if is_stream:
                return self._files.follow(job_id, lambda: self._jobs.is_over(job_id))
            return self._files.read_lines(job_id)

        return _LogResponse(chunks, is_raw=is_raw, headers=headers)


class _LogResponse(Response):
    """Sends its headers at once and then each chunk as it comes; a client that goes away ends it.

    A client that reads slowly holds one chunk, nothing more: ``send`` waits for it.
    """

    media_type = "text/plain"

    def __init__(
        self, chunks: Callable[[], AsyncGenerator[bytes, None]], *, is_raw: bool, headers: dict[str, str]
    ) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._chunks = chunks
        self._is_raw = is_raw

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the log until it ends or the client is gone."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send(send), name="log-response")
        leaving = asyncio.create_task(_until_gone(receive), name="log-response-gone")
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.gather(leaving, sending, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        async with aclosing(self._chunks()) as chunks:
            async for lines in chunks:
                body = lines if self._is_raw else cleaned(lines)
                await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
