"""Starting runs under a debugger: which options are taken, and who may. docs: development."""

from __future__ import annotations

import json

import pytest

from support.live_program import LiveProgram
from support.program import ACTOR_ID, Program
from support.storage_server import error

RUNS = f"/actors/{ACTOR_ID}/runs"


async def test_the_process_gets_the_debugger_that_was_asked_for(live: LiveProgram) -> None:
    run, process = await live.running("debugPort=5678&debugWait=1")
    assert run["options"]["debugPort"] == 5678
    assert process.spec.debug is not None
    assert (process.spec.debug.port, process.spec.debug.waits) == (5678, True)
    _, free = await live.running("debugPort=0")
    assert free.spec.debug is not None
    assert free.spec.debug.port > 1024
    _, plain = await live.running()
    assert plain.spec.debug is None


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("debugPort=80", "Query parameter debugPort has an invalid value 80: it must be a port from 1024 to 65535"),
        ("debugPort=70000", "Query parameter debugPort has an invalid value 70000"),
        ("debugPort=x", "debugPort"),
        ("debugWait=1", "Query parameter debugWait needs debugPort."),
    ],
)
async def test_wrong_values_are_named(program: Program, query: str, said: str) -> None:
    answer = await program.send("POST", f"{RUNS}?{query}")
    assert error(answer)[:2] == (400, "invalid-request")
    assert said in json.loads(answer.body)["error"]["message"]


async def test_a_debugger_is_for_the_actors_owner(program: Program) -> None:
    await program.ask("PUT", f"/actors/{ACTOR_ID}", {"isPublic": True, "title": "Counter", "categories": ["OTHER"]})
    assert (await program.send("POST", RUNS, by="john")).status == 201
    answer = await program.send("POST", f"{RUNS}?debugPort=0", by="john")
    assert error(answer)[:2] == (403, "insufficient-permissions")
    assert (await program.send("POST", f"{RUNS}?debugPort=0", by="jane")).status == 201
