"""The audit log: whose calls are logged, reading it, and how long it is kept."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec

from actorium.domain.accounts import Role
from actorium.domain.audit import Action, AuditEntry, Caller
from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.times import DAY_MS
from actorium.domain.token_scopes import RunAccess
from actorium.kit import Clock, Tasks, forever
from actorium.services.access import Principal
from actorium.storage import accounts, audit_log
from actorium.storage.audit_log import AuditedDatabase
from actorium.storage.db import Tx

MAX_PAGE = 1000
_EXPORT_PAGE = 500
_SWEEP_SECS = 3600.0
_DELETED_AT_ONCE = 500
_REFUSED = Action("call", "refuse")
# What is in storages is read and written all the time, and is no change of who may do what.
_CONTENTS = re.compile(
    r"(.*_)?(dataset_items|keyValueStore_record|requestQueue_requests?|requestQueue_head)_.*|PostChargeRun|tools_.*"
)


def is_change(method: str, operation_id: str) -> bool:
    """Whether calls of an operation may be entries of the log."""
    if _CONTENTS.fullmatch(operation_id):
        return False
    return method not in ("GET", "HEAD") or "_runSync" in operation_id


def acting(username: str, operation: str) -> contextlib.AbstractContextManager[None]:
    """Log the changes made in this block as those of the machine's user ``username`` with a command."""
    return audit_log.acting(Caller(None, username, None, operation))


def caller_of(
    principal: Principal, operation: str, reference: str, client_ip: str | None, user_agent: str | None
) -> Caller:
    """Who calls, as the log shows it."""
    held = principal.held
    return Caller(
        user_id=principal.user_id,
        username=principal.username,
        token_id=principal.token_id,
        operation=operation,
        run_id=principal.run_id,
        reference=reference,
        client_ip=client_ip,
        user_agent=user_agent,
        claims_for=None if held is None else held.token_id,
        restricts_runs=held is not None and held.scope.run_access is RunAccess.RESTRICTED,
    )


class AuditFilter(msgspec.Struct, frozen=True):
    """Which entries to show: ``equal`` by column, and a range of times."""

    equal: dict[str, str] = {}
    after: int | None = None
    before: int | None = None


class AuditLog:
    """Reads the audit log and deletes what is older than ``keep_days``; 0 keeps all."""

    def __init__(self, db: AuditedDatabase, clock: Clock, *, keep_days: int) -> None:
        self._db = db
        self._clock = clock
        self._keep_days = keep_days
        self._tasks = Tasks("audit-log")

    async def start(self) -> None:
        """Begin to delete what is too old."""
        if self._keep_days and not len(self._tasks):
            self._tasks.spawn("clean up", forever("cleaning up the audit log", _SWEEP_SECS, self._step))

    async def stop(self) -> None:
        """End."""
        await self._tasks.stop()

    async def _step(self) -> None:
        await self.clean_up()
        await self._clock.sleep(_SWEEP_SECS)

    async def clean_up(self) -> None:
        """Delete what is older than it is to be kept."""
        before = self._clock.now_ms() - self._keep_days * DAY_MS

        async def op(tx: Tx) -> int:
            return await audit_log.delete_before(tx, before, _DELETED_AT_ONCE)

        while await self._db.write("delete old audit entries", op) == _DELETED_AT_ONCE:
            pass

    @contextlib.contextmanager
    def call(self, caller: Caller) -> Iterator[None]:
        """Log what a call changes."""
        with audit_log.acting(caller):
            yield

    async def refused(self, caller: Caller) -> None:
        """Log that a call's rights did not suffice."""
        await self._db.note(caller, _REFUSED, caller.reference, ErrorType.INSUFFICIENT_PERMISSIONS.code)

    async def find(
        self, principal: Principal, wanted: AuditFilter, *, older_than: tuple[int, str] | None, limit: int
    ) -> Sequence[AuditEntry]:
        """Entries, newest first, older than the last one of the page before.

        Users see what was done in their name; administrators see all.
        """

        async def op(tx: Tx) -> Sequence[AuditEntry]:
            user = await accounts.get_user(tx, principal.user_id)
            equal = dict(wanted.equal)
            if user is None or user.role != Role.ADMIN:
                if equal.get("user_id", principal.user_id) != principal.user_id:
                    raise ApiError(
                        ErrorType.INSUFFICIENT_PERMISSIONS,
                        "Insufficient permissions: only administrators see what other users have done.",
                    )
                equal["user_id"] = principal.user_id
            return await audit_log.find(
                tx, equal, after=wanted.after, before=wanted.before, older_than=older_than, limit=limit
            )

        return await self._db.read("read audit log", op)

    async def export(self, principal: Principal, wanted: AuditFilter) -> AsyncIterator[Sequence[AuditEntry]]:
        """All entries, newest first, in pages."""
        older_than = None
        while page := await self.find(principal, wanted, older_than=older_than, limit=_EXPORT_PAGE):
            yield page
            older_than = (page[-1].at, page[-1].id)
