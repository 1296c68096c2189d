"""Runs that were started with the token of a run."""

from __future__ import annotations

import pytest

from actorium.domain.models import JobStatus, Run
from support.program import ACTOR_ID, Program

RUNS = f"/actors/{ACTOR_ID}/runs"


async def workflow_key(program: Program, run_id: str) -> str:
    principal = program.people["jane"]
    return (await program.platform.runs.get(principal, run_id)).workflow_key


async def test_children_are_found_by_their_parent(program: Program) -> None:
    parent, other = await program.run(JobStatus.RUNNING), await program.run(JobStatus.RUNNING)
    children = [(await program.ask("POST", RUNS, by=parent))["id"] for _ in range(2)]
    await program.ask("POST", RUNS, by=other)
    program.clock.advance(0.001)
    grandchild = await program.ask("POST", RUNS, by=await as_run(program, children[0]))
    assert grandchild["meta"]["origin"] == "ACTOR"
    found = await program.ask("GET", f"/actor-runs?actoriumParentRunId={parent.id}")
    assert ({run["id"] for run in found["items"]}, found["total"]) == (set(children), 2)
    found = await program.ask("GET", f"{RUNS}?actoriumParentRunId={children[0]}")
    assert [run["id"] for run in found["items"]] == [grandchild["id"]]
    assert (await program.ask("GET", f"/actor-runs?actoriumParentRunId={parent.id}", by="john"))["total"] == 0


async def as_run(program: Program, run_id: str) -> Run:
    return await program.platform.runs.get(program.people["jane"], run_id)


async def test_the_workflow_key_goes_down_the_tree(program: Program) -> None:
    first = await program.send("POST", RUNS, headers={"X-Apify-Workflow-Key": "wf-1"})
    assert first.status == 201
    root = await program.ask("GET", f"{RUNS}/last")
    assert await workflow_key(program, root["id"]) == "wf-1"
    child = await program.ask("POST", RUNS, by=await as_run(program, root["id"]))
    assert await workflow_key(program, child["id"]) == "wf-1"
    plain = [await program.run(), await program.run()]
    assert len({run.workflow_key for run in plain}) == 2


@pytest.mark.parametrize("key", ["", "x" * 101, "a b"])
async def test_a_workflow_key_of_no_use_is_ignored(program: Program, key: str) -> None:
    answer = await program.send("POST", RUNS, headers={"X-Apify-Workflow-Key": key})
    assert answer.status == 201
    run = await program.ask("GET", f"{RUNS}/last")
    assert await workflow_key(program, run["id"]) not in ("", key)


async def test_children_live_on_unless_the_setting_says_otherwise(program: Program) -> None:
    parent = await program.run(JobStatus.RUNNING)
    child = await program.ask("POST", RUNS, by=parent)
    await program.ask("POST", f"/actor-runs/{parent.id}/abort")
    aborted = await program.platform.runs.get(program.people["jane"], parent.id)
    assert aborted.abort_children_at is None
    assert (await program.ask("GET", f"/actor-runs/{child['id']}"))["status"] == "READY"
