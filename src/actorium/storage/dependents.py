"""What goes with what is deleted: webhooks that wait for an Actor or task, actions of schedules, storages of a run."""

from __future__ import annotations

from actorium.storage.db import Tx
from actorium.storage.jobs import delete_run
from actorium.storage.schedules import drop_actions_of
from actorium.storage.storages import delete_run_storages
from actorium.storage.webhooks import remove_webhooks_of


async def delete_run_with_storages(tx: Tx, run_id: str, now: int) -> bool:
    """Delete a run that is over and its default storages without a name; whether it was there and over."""
    if await delete_run(tx, run_id) is None:
        return False
    await delete_run_storages(tx, run_id, now)
    return True


async def drop_dependents_of_actor(tx: Tx, actor_id: str, user_id: str, now: int) -> None:
    """Drop what depends on an Actor and on its owner's tasks of it, all of which are about to be deleted."""
    rows = await tx.fetch("SELECT id FROM tasks WHERE actor_id = ? AND user_id = ?", actor_id, user_id)
    for row in rows:
        await drop_dependents_of_task(tx, row["id"], now)
    await remove_webhooks_of(tx, actor_id, now)
    await drop_actions_of(tx, actor_id)


async def drop_dependents_of_task(tx: Tx, task_id: str, now: int) -> None:
    """Drop what depends on a task that is about to be deleted."""
    await remove_webhooks_of(tx, task_id, now)
    await drop_actions_of(tx, task_id)
