"""The audit log, written in the transactions of the changes it tells of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from actorium.domain.audit import ACTIONS, SUCCESS, Action, AuditEntry, Caller
from actorium.domain.errors import ApiError, ErrorType
from actorium.kit import Clock, new_id
from actorium.storage import token_claims
from actorium.storage.db import Database, Operation, Row, Tx, UniqueViolationError, placeholders

T = TypeVar("T")
_FIELDS = AuditEntry.__struct_fields__
_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
_MAX_TEXT = 500


@contextlib.contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """Log the changes made in this block, and in the tasks it begins, as ``caller``'s."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


class AuditedDatabase:
    """A ``Database`` that writes down, along with each change named in ``ACTIONS``, who has made it.

    A change that nobody asked for (see ``acting``) is the platform's own and not logged.
    """

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self.name = db.name

    async def start(self) -> None:
        """Connect and apply missing migrations."""
        await self._db.start()

    async def stop(self) -> None:
        """Finish what was begun and disconnect."""
        await self._db.stop()

    async def reclaim(self) -> bool:
        """Give some of the space of deleted rows back to the file system; returns whether there is more."""
        return await self._db.reclaim()

    async def read(self, description: str, op: Operation[T]) -> T:
        """See ``Database.read``."""
        return await self._db.read(description, op)

    async def write(self, description: str, op: Operation[T], *, lane: str | None = None, ahead: bool = False) -> T:
        """See ``Database.write``."""
        action, caller = ACTIONS.get(description), _CALLER.get()
        # What a run says of itself all the time is no change worth an entry.
        if action is None or caller is None or (description == "update run" and caller.run_id is not None):
            return await self._db.write(description, op, lane=lane, ahead=ahead)
        now = self._clock.now_ms()

        async def logged(tx: Tx) -> T:
            result = await op(tx)
            if not _is_old(result):
                resource_id = _id_of(result)
                if action.creates and resource_id and caller.claims_for is not None:
                    await token_claims.insert(
                        tx,
                        caller.claims_for,
                        resource_id,
                        restricts=caller.restricts_runs and action.name == "run.start",
                    )
                found = resource_id or caller.reference or caller.user_id or ""
                await insert(tx, _entry(caller, action, now, found, SUCCESS))
            return result

        try:
            return await self._db.write(description, logged, lane=lane, ahead=ahead)
        except ApiError as error:
            if error.type is not ErrorType.INSUFFICIENT_PERMISSIONS:  # logged for the whole call
                await self.note(caller, action, caller.reference, error.type.code)
            raise
        except UniqueViolationError:
            await self.note(caller, action, caller.reference, ErrorType.NAME_NOT_UNIQUE.code)
            raise

    async def note(self, caller: Caller, action: Action, resource_id: str, outcome: str) -> None:
        """Log what was not done. Where the disk is full it goes without."""
        entry = _entry(caller, action, self._clock.now_ms(), resource_id, outcome)

        async def op(tx: Tx) -> None:
            await insert(tx, entry)

        with contextlib.suppress(ApiError):
            await self._db.write("log refusal", op)


def _entry(caller: Caller, action: Action, at: int, resource_id: str, outcome: str) -> AuditEntry:
    return AuditEntry(
        id=new_id(),
        at=at,
        user_id=caller.user_id,
        username=caller.username,
        token_id=caller.token_id,
        run_id=caller.run_id,
        operation=caller.operation,
        action=action.name,
        resource_type=action.resource_type,
        resource_id=resource_id[:_MAX_TEXT],
        outcome=outcome,
        client_ip=caller.client_ip,
        user_agent=(caller.user_agent or "")[:_MAX_TEXT] or None,
    )


def _id_of(result: object) -> str | None:
    """The id of what an operation has made or changed, where it returns that, alone or first of several."""
    first = next((one for one in result if one is not None), None) if isinstance(result, tuple) else result
    found = getattr(getattr(first, "actor", first), "id", None)
    return found if isinstance(found, str) else None


def _is_old(result: object) -> bool:
    """Whether a get-or-create found what it was asked for."""
    return isinstance(result, tuple) and len(result) == 2 and result[1] is False


async def insert(tx: Tx, entry: AuditEntry) -> None:
    """Add an entry."""
    await tx.execute(
        f"INSERT INTO audit_log ({', '.join(_FIELDS)}) VALUES ({placeholders(len(_FIELDS))})",
        *(getattr(entry, field) for field in _FIELDS),
    )


async def find(
    tx: Tx,
    filters: dict[str, str],
    *,
    after: int | None,
    before: int | None,
    older_than: tuple[int, str] | None,
    limit: int,
) -> Sequence[AuditEntry]:
    """Entries, newest first, whose columns have the values of ``filters``, from ``after`` to ``before``.

    ``older_than`` is the time and id of the last entry of the page before.
    """
    conditions, values = [f"{name} = ?" for name in filters], list[Any](filters.values())
    if after is not None:
        conditions.append("at >= ?")
        values.append(after)
    if before is not None:
        conditions.append("at < ?")
        values.append(before)
    if older_than is not None:
        conditions.append("(at < ? OR (at = ? AND id < ?))")
        values += [older_than[0], older_than[0], older_than[1]]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = await tx.fetch(f"SELECT * FROM audit_log {where} ORDER BY at DESC, id DESC LIMIT ?", *values, limit)
    return [_of_row(row) for row in rows]


def _of_row(row: Row) -> AuditEntry:
    return AuditEntry(**{field: row[field] for field in _FIELDS})


async def delete_before(tx: Tx, at: int, limit: int) -> int:
    """Delete some entries from before a time; returns how many."""
    return await tx.execute(
        "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE at < ? ORDER BY at LIMIT ?)", at, limit
    )
