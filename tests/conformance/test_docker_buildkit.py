"""Images that need BuildKit or an account at a registry, on a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from actorium.builders.docker import DockerBuilder
from actorium.kit import new_id
from actorium.runtimes.docker.engine import DockerEngine
from conformance.docker_harness import BASE, Workshop
from support.registry import Registry

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

_LOGIN = "robot:gq7-Zt:x"


def processes_with(marker: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


async def test_what_only_buildkit_can_do_is_built_by_it(workshop: Workshop) -> None:
    cache = new_id()
    mounted = f"RUN --mount=type=cache,id={cache},target=/cache"

    def files(version: int) -> dict[str, str]:
        step = f"{mounted} echo {version} >> /cache/lines; cat /cache/lines > /lines; echo in a step"
        return {"Dockerfile": f'{BASE}{step}\nCMD ["cat", "/lines"]\n'}

    output = await workshop.build(files(1))
    assert "Step 1/" not in workshop.log
    assert " in a step\n" in workshop.log
    assert f"{mounted} echo 1" in workshop.log
    assert await workshop.execute(output) == "1\n"
    image = await workshop.engine.call("GET", f"images/{output.state['image']}/json")
    assert image["RepoTags"] == [f"actorium/my-actor:0.1.1-{output.state['build_id']}"]
    assert image["Config"]["Labels"]["com.apify.actBuildId"] == output.state["build_id"]
    # A step that changed is done anew, what was mounted is kept.
    assert await workshop.execute(await workshop.build(files(2))) == "1\n2\n"
    await workshop.build(files(2))
    assert " CACHED\n" in workshop.log


async def test_build_arguments_and_ignored_files_with_buildkit(workshop: Workshop) -> None:
    workshop.builder = DockerBuilder(
        workshop.engine, workshop.root, workshop.harness.runtime.network_name, buildkit="always"
    )
    files = {
        ".actor/actor.json": '{"actorSpecification": 1, "dockerContextDir": "../app", "dockerfile": "./My.Dockerfile"}',
        ".actor/My.Dockerfile": BASE + "ARG WHAT=nothing\nCOPY . ./\n"
        'RUN echo "$WHAT" > what\nCMD ["sh", "-c", "cat what; find . -type f"]\n',
        "app/.dockerignore": "left\n!left/kept\n",
        "app/left/out": "no",
        "app/left/kept": "yes",
    }
    found = (await workshop.execute(await workshop.build(files, WHAT="given"))).split()
    assert found[0] == "given"
    # BuildKit does not keep the Dockerfile itself out where the context comes with the call.
    assert sorted({*found[1:]} - {"./.actorium.Dockerfile"}) == ["./.dockerignore", "./left/kept", "./what"]


async def test_a_failing_step_of_buildkit_fails_the_build(workshop: Workshop) -> None:
    reason = await workshop.fails(
        {"Dockerfile": f'{BASE}RUN --mount=type=tmpfs,target=/x echo "said {new_id()}" && exit 3\nCMD ["true"]\n'}
    )
    assert "exit code: 3" in reason
    assert " said " in workshop.log


async def test_an_aborted_build_ends_its_step_in_buildkit(workshop: Workshop) -> None:
    marker = new_id()
    files = {"Dockerfile": f'{BASE}RUN --mount=type=tmpfs,target=/x echo begun; sleep 600; : {marker}\nCMD ["true"]\n'}
    building = asyncio.create_task(workshop.build(files, use_cache=False))
    async with asyncio.timeout(60):
        while " begun\n" not in workshop.log:
            assert not building.done(), building
            await asyncio.sleep(0.01)
    assert processes_with(marker) != []
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert processes_with(marker) == []


async def test_buildkit_can_be_ruled_out(workshop: Workshop) -> None:
    workshop.builder = DockerBuilder(
        workshop.engine, workshop.root, workshop.harness.runtime.network_name, buildkit="never"
    )
    reason = await workshop.fails({"Dockerfile": f'{BASE}RUN --mount=type=tmpfs,target=/x true\nCMD ["true"]\n'})
    assert reason == "Dockerfile line 2: RUN --mount needs BuildKit, which docker_buildkit=never rules out."


@pytest.fixture
def registry() -> Iterator[Registry]:
    found = Registry(_LOGIN)
    yield found
    found.stop()


@pytest.mark.parametrize("buildkit", ["never", "always"])
async def test_base_images_are_pulled_with_the_account(
    workshop: Workshop, docker: DockerEngine, registry: Registry, buildkit: str
) -> None:
    files = {"Dockerfile": f"FROM {registry.image}\nCOPY x /x\n", "x": new_id()}
    network = workshop.harness.runtime.network_name
    workshop.builder = DockerBuilder(docker, workshop.root, network, buildkit=buildkit)
    reason = (await workshop.fails(files)).lower()
    assert "no basic auth credentials" in reason or "unauthorized" in reason, reason
    logins = {registry.name: _LOGIN}
    workshop.builder = DockerBuilder(docker, workshop.root, network, buildkit=buildkit, logins=logins)
    output = await workshop.build(files)
    image = await docker.call("GET", f"images/{output.state['image']}/json")
    assert image["Config"]["Cmd"] == ["/base"]
    assert registry.name in workshop.log or "Pull complete" in workshop.log
    assert _LOGIN.partition(":")[2] not in workshop.log
    await docker.call("DELETE", f"images/{registry.image}")
