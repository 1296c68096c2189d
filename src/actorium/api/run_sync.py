"""Starting a run and waiting for its result in one call. docs: runs, section 4.5."""

from __future__ import annotations

from starlette.responses import Response

from actorium.api.datasets import check_items_query, items_response
from actorium.api.http import Call, Handler, Route
from actorium.api.records import record_response
from actorium.api.runs import Begin
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import TERMINAL_STATUSES, JobStatus, Run
from actorium.domain.records import check_key
from actorium.services.datasets import Datasets
from actorium.services.key_value_stores import KeyValueStores
from actorium.services.runs import Runs

MAX_SYNC_SECS = 300
"""How long a call waits for its run. openapi: actor_runSync_post."""

_CONDITIONS = frozenset({"range", "if-range", "if-match", "if-none-match"})


class RunSync:
    """Handlers that start a run, wait for it and answer with what it made.

    A client that goes away leaves the run alone: it is one like any other.
    """

    def __init__(self, runs: Runs, stores: KeyValueStores, datasets: Datasets) -> None:
        self._runs = runs
        self._stores = stores
        self._datasets = datasets

    def routes(self, resource: str, operation: str, begin: Begin) -> list[Route]:
        """The four routes below ``resource``, such as ``/v2/actors/{actorId}`` with the operation ``actor``."""
        sync, items = f"{resource}/run-sync", f"{resource}/run-sync-get-dataset-items"
        return [
            Route("POST", sync, f"{operation}_runSync_post", self._with_record(begin)),
            Route("GET", sync, f"{operation}_runSync_get", self._with_record(begin)),
            Route("POST", items, f"{operation}_runSyncGetDatasetItems_post", self._with_items(begin)),
            Route("GET", items, f"{operation}_runSyncGetDatasetItems_get", self._with_items(begin)),
        ]

    def _with_record(self, begin: Begin) -> Handler:
        async def handle(call: Call) -> Response:
            key = call.query.text("outputRecordKey") or "OUTPUT"
            check_key(key)
            run = await self._finished(call, begin)
            try:
                record = await self._stores.get(call.principal, run.default_key_value_store_id, key)
            except ApiError as error:
                if error.type is not ErrorType.RECORD_NOT_FOUND:
                    raise
                return Response(b"", 201, media_type="text/plain; charset=utf-8")
            return _created(await record_response(call, self._stores, record))

        return handle

    def _with_items(self, begin: Begin) -> Handler:
        async def handle(call: Call) -> Response:
            check_items_query(call.query)
            run = await self._finished(call, begin)
            try:
                return _created(await items_response(call, self._datasets, run.default_dataset_id))
            except ApiError as error:
                if error.type is not ErrorType.RECORD_NOT_FOUND:
                    raise
                raise ApiError(
                    ErrorType.DEFAULT_DATASET_NOT_FOUND,
                    f"The default dataset of the Actor run was not found (run ID: {run.id}).",
                ) from error

        return handle

    async def _finished(self, call: Call, begin: Begin) -> Run:
        if call.request.method == "HEAD":
            raise ApiError(
                ErrorType.METHOD_NOT_ALLOWED, "Method HEAD is not allowed here, as it would start a run. Use GET."
            )
        # Conditions are about a result that does not exist yet.
        call.headers = {name: value for name, value in call.headers.items() if name not in _CONDITIONS}
        data = b"" if call.request.method == "GET" else await call.body()
        run = await begin(call, data)
        run = await self._runs.wait(run, MAX_SYNC_SECS, longest_secs=MAX_SYNC_SECS)
        if run.status not in TERMINAL_STATUSES:
            raise ApiError(
                ErrorType.RUN_TIMEOUT_EXCEEDED,
                f"Actor run exceeded the timeout of {MAX_SYNC_SECS} seconds for this API endpoint",
            )
        if run.status is not JobStatus.SUCCEEDED:
            raise ApiError(ErrorType.RUN_FAILED, f"Actor run did not succeed (run ID: {run.id}, status: {run.status}).")
        return run


def _created(answer: Response) -> Response:
    answer.status_code = 201
    return answer
