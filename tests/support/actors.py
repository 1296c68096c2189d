"""Further Actors in a running program, with a build that can be run."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from actorium.domain.models import Actor, Build, JobStatus
from actorium.kit import new_id
from actorium.storage import builds, catalog
from actorium.storage.db import Tx
from support.program import ACTOR_ID, Program


async def add_actor(
    program: Program,
    name: str,
    *,
    owner: str = "jane",
    input_schema: dict[str, Any] | None = None,
    run_options: dict[str, Any] | None = None,
    **fields: Any,
) -> str:
    """The id of a new Actor of ``owner`` with these API fields, built from the build of the program's own one."""
    actor_id, user_id = new_id(), program.people[owner].user_id
    now = program.clock.now_ms()

    async def op(tx: Tx) -> None:
        template = await builds.get_build(tx, (await builds.list_tags(tx, ACTOR_ID))["latest"])
        assert template is not None
        build: Build = msgspec.structs.replace(
            template,
            id=new_id(),
            actor_id=actor_id,
            user_id=user_id,
            status=JobStatus.SUCCEEDED,
            input_schema=None if input_schema is None else json.dumps(input_schema),
        )
        await catalog.insert_actor(tx, Actor(actor_id, user_id, name, now, now, run_options or {}, fields))
        await builds.insert_build(tx, build)
        await builds.set_tag(tx, actor_id, "latest", build.id)

    await program.platform.db.write("add Actor", op)
    return actor_id
