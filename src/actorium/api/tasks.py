"""Tasks: create, read, list, update, delete, input. Their runs are with the other runs."""

from __future__ import annotations

from typing import Any, Protocol

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response, json_response
from actorium.api.shapes import page
from actorium.domain.models import ListedTask, Task, User
from actorium.domain.times import iso, iso_or_none
from actorium.domain.web_addresses import WebAddresses
from actorium.services.tasks import Tasks


class UserLookup(Protocol):
    """The part of the accounts service these routes need."""

    async def get_user(self, id_or_username: str) -> User:
        """A user by id or username. Raises 404."""
        ...


class TaskRoutes:
    """Handlers of the task routes."""

    def __init__(self, tasks: Tasks, users: UserLookup, addresses: WebAddresses) -> None:
        self._tasks = tasks
        self._users = users
        self._addresses = addresses

    def routes(self) -> list[Route]:
        """All routes of this module."""
        task = "/v2/actor-tasks/{actorTaskId}"
        return [
            Route("GET", "/v2/actor-tasks", "actorTasks_get", self.list),
            Route("POST", "/v2/actor-tasks", "actorTasks_post", self.create),
            Route("GET", task, "actorTask_get", self.get),
            Route("PUT", task, "actorTask_put", self.update),
            Route("DELETE", task, "actorTask_delete", self.delete),
            Route("GET", f"{task}/input", "actorTask_input_get", self.get_input),
            Route("PUT", f"{task}/input", "actorTask_input_put", self.update_input),
        ]

    async def list(self, call: Call) -> Response:
        """The caller's tasks."""
        offset, limit = call.query.page()
        desc = call.query.flag("desc")
        found, total = await self._tasks.list(call.principal, offset=offset, limit=limit, desc=desc)
        items = [_task_short_shape(listed) for listed in found]
        return data_response(page(items, total=total, offset=offset, limit=limit, desc=desc))

    async def create(self, call: Call) -> Response:
        """Create a task."""
        task = await self._tasks.create(call.principal, await call.json_object())
        location = f"{call.public_base_url}/v2/actor-tasks/{task.id}"
        return data_response(await self._shape(task), 201, {"Location": location})

    async def get(self, call: Call) -> Response:
        """One task."""
        return data_response(await self._shape(await self._own(call)))

    async def update(self, call: Call) -> Response:
        """Change a task."""
        task = await self._own(call)
        return data_response(
            await self._shape(await self._tasks.update(call.principal, task, await call.json_object()))
        )

    async def delete(self, call: Call) -> Response:
        """Delete a task."""
        await self._tasks.delete(await self._own(call))
        return Response(status_code=204)

    async def get_input(self, call: Call) -> Response:
        """A task's input, bare."""
        return json_response((await self._own(call)).input or {})

    async def update_input(self, call: Call) -> Response:
        """Put keys into a task's input; answers the whole input, bare."""
        task = await self._own(call)
        changed = await self._tasks.update_input(call.principal, task, await call.json(default={}))
        return json_response(changed.input)

    async def _own(self, call: Call) -> Task:
        return await self._tasks.resolve(call.principal, call.path["actorTaskId"])

    async def _shape(self, task: Task) -> dict[str, Any]:
        owner = await self._users.get_user(task.user_id)
        standby = task.fields.get("actorStandby")
        is_enabled = bool(standby and standby.get("isEnabled"))
        return {
            "id": task.id,
            "userId": task.user_id,
            "actId": task.actor_id,
            "name": task.name,
            "username": owner.username,
            "title": task.fields.get("title"),
            "description": task.fields.get("description"),
            "createdAt": iso(task.created_at),
            "modifiedAt": iso(task.modified_at),
            "removedAt": None,
            "stats": _stats(task),
            "options": task.options,
            "input": task.input,
            "actorStandby": task.fields.get("actorStandby"),
            "standbyUrl": self._addresses.standby_url(task.id, owner.username, task.name) if is_enabled else None,
            "isPublic": task.published_at is not None,
            "publicConfig": _public_config(task),
        }


def _public_config(task: Task) -> dict[str, Any] | None:
    config = task.fields.get("publicConfig")
    if config is None and task.published_at is None:
        return None
    return {**(config or {}), "publishedAt": iso_or_none(task.published_at)}


def _task_short_shape(listed: ListedTask) -> dict[str, Any]:
    task = listed.task
    return {
        "id": task.id,
        "userId": task.user_id,
        "actId": task.actor_id,
        "actName": listed.actor_name,
        "actUsername": listed.actor_username,
        "name": task.name,
        "username": listed.username,
        "title": task.fields.get("title"),
        "createdAt": iso(task.created_at),
        "modifiedAt": iso(task.modified_at),
        "stats": _stats(task),
        "isPublic": task.published_at is not None,
    }


def _stats(task: Task) -> dict[str, Any]:
    stats: dict[str, Any] = {"totalRuns": task.total_runs}
    if task.last_run_started_at is not None:
        stats["lastRunStartedAt"] = iso(task.last_run_started_at)
    return stats
