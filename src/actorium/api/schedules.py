"""Schedules: create, read, list, update, delete, invoke, log."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from actorium.api.http import Call, Route, data_response, json_response
from actorium.api.shapes import iso, iso_or_none, page
from actorium.domain.schedules import RUN_ACTOR, Action, Schedule
from actorium.services.schedules import Schedules


class ScheduleRoutes:
    """Handlers of the schedule routes."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    def routes(self) -> list[Route]:
        """All routes of this module. The platform serves ``invoke``, but does not document it."""
        schedule = "/v2/schedules/{scheduleId}"
        return [
            Route("GET", "/v2/schedules", "schedules_get", self.list),
            Route("POST", "/v2/schedules", "schedules_post", self.create),
            Route("GET", schedule, "schedule_get", self.get),
            Route("PUT", schedule, "schedule_put", self.update),
            Route("DELETE", schedule, "schedule_delete", self.delete),
            Route("GET", f"{schedule}/log", "schedule_log_get", self.log),
            Route("POST", f"{schedule}/invoke", "schedule_invoke_post", self.invoke),
        ]

    async def list(self, call: Call) -> Response:
        """The caller's schedules."""
        offset, limit = call.query.page()
        desc = call.query.flag("desc")
        found, total = await self._schedules.list(call.principal, offset=offset, limit=limit, desc=desc)
        items = [_short_shape(schedule) for schedule in found]
        return data_response(page(items, total=total, offset=offset, limit=limit, desc=desc))

    async def create(self, call: Call) -> Response:
        """Create a schedule."""
        schedule = await self._schedules.create(call.principal, await call.json_object())
        location = f"{call.public_base_url}/v2/schedules/{schedule.id}"
        return data_response(_shape(schedule), 201, {"Location": location})

    async def get(self, call: Call) -> Response:
        """One schedule."""
        return data_response(_shape(await self._schedules.resolve(call.principal, call.path["scheduleId"])))

    async def update(self, call: Call) -> Response:
        """Change a schedule."""
        body = await call.json_object()
        return data_response(_shape(await self._schedules.update(call.principal, call.path["scheduleId"], body)))

    async def delete(self, call: Call) -> Response:
        """Delete a schedule."""
        await self._schedules.delete(call.principal, call.path["scheduleId"])
        return Response(status_code=204)

    async def log(self, call: Call) -> Response:
        """A schedule's log: a bare array."""
        entries = await self._schedules.log(call.principal, call.path["scheduleId"])
        return data_response(
            [{"message": one.message, "level": one.level, "createdAt": iso(one.created_at)} for one in entries]
        )

    async def invoke(self, call: Call) -> Response:
        """Do now what a schedule does."""
        await self._schedules.invoke(call.principal, call.path["scheduleId"])
        return json_response({}, 201)


def _base_shape(schedule: Schedule) -> dict[str, Any]:
    return {
        "id": schedule.id,
        "userId": schedule.user_id,
        "name": schedule.name,
        "title": schedule.title,
        "cronExpression": schedule.cron_expression,
        "timezone": schedule.timezone,
        "isEnabled": schedule.is_enabled,
        "isExclusive": schedule.is_exclusive,
        "createdAt": iso(schedule.created_at),
        "modifiedAt": iso(schedule.modified_at),
        "nextRunAt": iso_or_none(schedule.next_run_at),
        "lastRunAt": iso_or_none(schedule.last_run_at),
        "notifications": {"email": schedule.notify_email},
    }


def _shape(schedule: Schedule) -> dict[str, Any]:
    actions = [_action_shape(action) for action in schedule.actions]
    return {**_base_shape(schedule), "description": schedule.description, "actions": actions}


def _short_shape(schedule: Schedule) -> dict[str, Any]:
    return {**_base_shape(schedule), "actions": [_short_action_shape(action) for action in schedule.actions]}


def _short_action_shape(action: Action) -> dict[str, Any]:
    target = "actorId" if action.type == RUN_ACTOR else "actorTaskId"
    return {"id": action.id, "type": action.type, target: action.target_id}


def _action_shape(action: Action) -> dict[str, Any]:
    shape = _short_action_shape(action)
    more = {"runInput": action.run_input, "runOptions": action.run_options, "input": action.input}
    return shape | {name: value for name, value in more.items() if value is not None}
