"""Actors of the stock SDKs that use what a run can do: reboot, metamorph, call, start, abort, messages, exit codes."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.test_sdks import items, javascript
from support.platform import Platform, processes_of, wait_for

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("sdk-verbs")]

_PYTHON = """
import asyncio

from apify import Actor


async def main() -> None:
    async with Actor:
        given = await Actor.get_input() or {}
        mode = given.get("mode", "echo")
        before = await Actor.get_value("STATE") or {}
        await Actor.set_value("STATE", {"lives": before.get("lives", 0) + 1})
        if mode == "echo":
            await Actor.push_data(given)
        elif mode == "reboot":
            if not before:
                await Actor.reboot()
            await Actor.push_data({"lives": before["lives"] + 1})
        elif mode == "metamorph":
            await Actor.metamorph(given["target"], {"mode": "echo", "from": "metamorph"})
        elif mode == "call":
            run = await Actor.call(given["target"], {"mode": "echo", "n": 1})
            await Actor.push_data({"called": run.id, "status": run.status})
        elif mode == "abort":
            run = await Actor.start(given["target"], {"mode": "wait"})
            await Actor.abort(run.id)
            await Actor.push_data({"aborted": run.id})
        elif mode == "wait":
            print("WAITING", flush=True)
            while not before:
                await asyncio.sleep(0.1)
        elif mode == "status":
            await Actor.set_status_message("Half way")
            await Actor.exit(status_message="All done")
        elif mode == "fail":
            await Actor.fail(exit_code=7, status_message="No luck")
        elif mode == "raise":
            raise RuntimeError("oops")
        elif mode == "exit":
            await Actor.exit(exit_code=3)


asyncio.run(main())
"""

_JAVASCRIPT = """
import { Actor } from 'apify';

await Actor.main(async () => {
    const given = (await Actor.getInput()) ?? {};
    const mode = given.mode ?? 'echo';
    const before = await Actor.getValue('STATE');
    await Actor.setValue('STATE', { lives: (before?.lives ?? 0) + 1 });
    if (mode === 'echo') await Actor.pushData(given);
    else if (mode === 'reboot') {
        if (!before) await Actor.reboot();
        await Actor.pushData({ lives: before.lives + 1 });
    } else if (mode === 'metamorph') await Actor.metamorph(given.target, { mode: 'echo', from: 'metamorph' });
    else if (mode === 'call') {
        const run = await Actor.call(given.target, { mode: 'echo', n: 1 });
        await Actor.pushData({ called: run.id, status: run.status });
    } else if (mode === 'abort') {
        const run = await Actor.start(given.target, { mode: 'wait' });
        await Actor.abort(run.id);
        await Actor.pushData({ aborted: run.id });
    } else if (mode === 'wait') {
        console.log('WAITING');
        while (!before) await new Promise((resolve) => { setTimeout(resolve, 100); });
    } else if (mode === 'status') {
        await Actor.setStatusMessage('Half way');
        await Actor.exit('All done');
    } else if (mode === 'fail') await Actor.fail('No luck', { exitCode: 7 });
    else if (mode === 'raise') throw new Error('oops');
    else if (mode === 'exit') await Actor.exit({ exitCode: 3 });
});
"""

_FILES = {
    "python": {
        "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
        'COPY . ./\nCMD ["python", "main.py"]\n',
        "requirements.txt": "apify>=4.1,<5\n",
        "main.py": _PYTHON,
    },
    "javascript": javascript(_JAVASCRIPT),
}


@pytest.fixture(scope="module", params=["python", pytest.param("javascript", marks=pytest.mark.node)])
def actor(request: pytest.FixtureRequest, platform: Platform) -> str:
    return platform.build_actor(f"{request.param}-verbs", _FILES[request.param])


def begin(platform: Platform, actor: str, mode: str, **more: Any) -> dict[str, Any]:
    run: dict[str, Any] = platform.call("POST", f"/v2/actors/{actor}/runs?memory=512", {"mode": mode, **more})
    return run


def done(platform: Platform, actor: str, mode: str, status: str = "SUCCEEDED", **more: Any) -> dict[str, Any]:
    """A run of this mode once it is over, with the status it must have."""
    ended = platform.ended(begin(platform, actor, mode, **more)["id"])
    assert ended["status"] == status, platform.log_lines(ended["id"])[-20:]
    assert processes_of(ended["id"]) == []
    return ended


def test_reboot(platform: Platform, actor: str) -> None:
    run = done(platform, actor, "reboot")
    assert (run["stats"]["rebootCount"], items(platform, run)) == (1, [{"lives": 2}])


def test_metamorph(platform: Platform, actor: str) -> None:
    target = platform.call("GET", f"/v2/actors/{actor}")["name"]
    run = done(platform, actor, "metamorph", target=f"admin/{target}")
    assert items(platform, run) == [{"mode": "echo", "from": "metamorph"}]
    assert (run["stats"]["metamorph"], run["metamorphs"][0]["inputKey"]) == (1, "INPUT-METAMORPH-1")


def test_call(platform: Platform, actor: str) -> None:
    (pushed,) = items(platform, done(platform, actor, "call", target=actor))
    child = platform.run(pushed["called"])
    assert (pushed["status"], child["status"], child["meta"]["origin"]) == ("SUCCEEDED", "SUCCEEDED", "ACTOR")
    assert items(platform, child) == [{"mode": "echo", "n": 1}]


def test_start_and_abort(platform: Platform, actor: str) -> None:
    (pushed,) = items(platform, done(platform, actor, "abort", target=actor))
    assert platform.ended(pushed["aborted"])["status"] == "ABORTED"
    assert processes_of(pushed["aborted"]) == []


def test_status_messages_and_exit_codes(platform: Platform, actor: str) -> None:
    run = done(platform, actor, "status")
    assert (run["statusMessage"], run["isStatusMessageTerminal"], run["exitCode"]) == ("All done", True, 0)
    run = done(platform, actor, "fail", "FAILED")
    assert (run["statusMessage"], run["exitCode"]) == ("No luck", 7)
    assert done(platform, actor, "raise", "FAILED")["exitCode"] == 91
    run = done(platform, actor, "exit", "FAILED")
    assert run["exitCode"] == 3


def test_a_migration(platform: Platform, actor: str, request: pytest.FixtureRequest) -> None:
    """JavaScript Actors answer ``migrating`` with a reboot, Python ones use the whole window."""
    run = begin(platform, actor, "wait")
    wait_for(lambda: any("WAITING" in line for line in platform.log_lines(run["id"])))
    platform.call("POST", f"/actorium/runs/{run['id']}/migrate")
    if "python" in request.node.name:
        current = platform.call("POST", f"/v2/actor-runs/{run['id']}/reboot")
        assert current["status"] == "RUNNING"
    ended = platform.ended(run["id"])
    assert ended["status"] == "SUCCEEDED", platform.log_lines(run["id"])[-20:]
    assert (ended["stats"]["migrationCount"], ended["stats"]["rebootCount"]) == (1, 0)
