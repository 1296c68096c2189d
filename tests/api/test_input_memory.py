"""Memory of a run: requested, by its input, by the Actor's options: runs, section 4.1; actors, section 3.6."""

from __future__ import annotations

import json
from typing import Any

import pytest

from actorium.storage.db import Tx
from support.checked import CheckedProgram
from support.program import ACTOR_ID

RUNS = f"/actors/{ACTOR_ID}/runs"


async def use(program: CheckedProgram, **definition: Any) -> None:
    """The Actor's build has this definition."""

    async def op(tx: Tx) -> None:
        text = json.dumps(definition)
        await tx.execute("UPDATE builds SET actor_definition_json = ? WHERE actor_id = ?", text, ACTOR_ID)

    await program.platform.db.write("definition", op)


async def memory(program: CheckedProgram, query: str = "", body: Any = None) -> int:
    run = await program.ask("POST", f"{RUNS}{query}", body)
    assert run["options"]["diskMbytes"] == 2 * run["options"]["memoryMbytes"]
    return int(run["options"]["memoryMbytes"])


@pytest.mark.parametrize(
    ("definition", "query", "body", "expected"),
    [
        ({}, "", None, 512),
        ({"defaultMemoryMbytes": 2048}, "", None, 2048),
        ({"defaultMemoryMbytes": 3000}, "", None, 4096),
        ({"defaultMemoryMbytes": 2048}, "?memory=256", None, 256),
        ({"defaultMemoryMbytes": "input.n * 100"}, "", {"n": 10}, 1024),
        ({"defaultMemoryMbytes": "input.n * 100"}, "?memory=256", {"n": 10}, 256),
        ({"defaultMemoryMbytes": "input.n * 100", "maxMemoryMbytes": 700}, "", {"n": 10}, 700),
        ({"defaultMemoryMbytes": "input.n * 100", "minMemoryMbytes": 2000, "maxMemoryMbytes": 700}, "", {"n": 1}, 2000),
        ({"maxMemoryMbytes": 256}, "?memory=1024", None, 256),
        ({"defaultMemoryMbytes": "runOptions.maxItems * 10"}, "?maxItems=100", None, 1024),
        ({"defaultMemoryMbytes": "runOptions.timeoutSecs == 77 ? 256 : 1024"}, "", None, 256),
        ({"defaultMemoryMbytes": "input.n * 100"}, "", {"n": "x"}, 512),
        ({"defaultMemoryMbytes": "input.n * 100"}, "", None, 512),
    ],
)
async def test_memory(
    checked: CheckedProgram, definition: dict[str, Any], query: str, body: Any, expected: int
) -> None:
    await checked.ask("PUT", f"/actors/{ACTOR_ID}", {"defaultRunOptions": {"memoryMbytes": 512, "timeoutSecs": 77}})
    await use(checked, **definition)
    assert await memory(checked, query, body) == expected


async def test_defaults_of_the_schema_count_and_secrets_are_seen(checked: CheckedProgram) -> None:
    field = {"title": "T", "description": "D", "type": "integer", "default": 20}
    secret = {"title": "T", "description": "D", "type": "string", "editor": "textfield", "isSecret": True}
    schema = {"title": "T", "type": "object", "schemaVersion": 1, "properties": {"n": field, "word": secret}}

    async def op(tx: Tx) -> None:
        await tx.execute("UPDATE builds SET input_schema = ? WHERE actor_id = ?", json.dumps(schema), ACTOR_ID)

    await checked.platform.db.write("schema", op)
    await use(checked, defaultMemoryMbytes="compareText(input.word ?? '', 'big') == 0 ? 4096 : input.n * 100")
    assert await memory(checked) == 2048
    assert await memory(checked, "", {"word": "big"}) == 4096


async def test_an_expression_that_fails_is_told_in_the_log(checked: CheckedProgram) -> None:
    await use(checked, defaultMemoryMbytes="input.n * 100")
    run = await checked.ask("POST", RUNS, {"n": "x"})
    answer = await checked.send("GET", f"/logs/{run['id']}")
    assert (
        "ACTOR: WARNING: The expression of defaultMemoryMbytes gives no memory for this input: "
        'cannot convert "x" to a number.'
    ) in answer.body.decode()


async def test_a_task_s_memory_goes_before_the_expression(checked: CheckedProgram) -> None:
    await use(checked, defaultMemoryMbytes="4096")
    task = await checked.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "options": {"memoryMbytes": 256}})
    run = await checked.ask("POST", f"/actor-tasks/{task['id']}/runs")
    assert run["options"]["memoryMbytes"] == 256
