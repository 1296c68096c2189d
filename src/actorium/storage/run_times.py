"""The times of runs that are not over, moved when the machine's clock is set."""

from __future__ import annotations

from actorium.storage.db import Tx

_COLUMNS = ("running_at", "timeout_at", "stop_at", "idle_at", "queued_at")


async def move(tx: Tx, step_ms: int) -> None:
    """Add ``step_ms`` to every time that says how long a live run, or its attempt, has been or may go on."""
    moved = ", ".join(f"{column} = {column} + ?" for column in _COLUMNS)
    await tx.execute(
        f"UPDATE runs SET {moved} WHERE status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING')",
        *[step_ms] * len(_COLUMNS),
    )
    await tx.execute("UPDATE attempts SET created_at = created_at + ? WHERE finished_at IS NULL", step_ms)
