"""The Docker builder on a real engine: images, cache, arguments, failures, aborts."""

from __future__ import annotations

import asyncio

import pytest

from actorium.kit import new_id
from conformance.docker_harness import BASE, Workshop
from conformance.runtimes import no_checkpoint

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


async def test_an_image_is_built_labelled_and_run(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + 'RUN echo "a step"\nCOPY . ./\nCMD ["python", "main.py"]\n',
        "main.py": "print('hello')\n",
        ".actor/actor.json": '{"actorSpecification": 1, "name": "x", "version": "0.1"}',
        "README.md": "# Read me",
    }
    output = await workshop.build(files)
    assert "Step 1/" in workshop.log
    assert "a step" in workshop.log
    assert await workshop.execute(output) == "hello\n"
    image = await workshop.engine.call("GET", f"images/{output.state['image']}/json")
    assert image["RepoTags"] == [f"actorium/my-actor:0.1.1-{output.state['build_id']}"]
    assert image["Config"]["Labels"]["com.apify.actBuildId"] == output.state["build_id"]
    assert output.size_bytes == image["Size"] > 10_000_000
    assert output.readme == "# Read me"
    assert output.actor_definition is not None and output.actor_definition["name"] == "x"


async def test_the_cache_is_used_when_wanted(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + "RUN cat /proc/sys/kernel/random/uuid > /id\n" + 'CMD ["cat", "/id"]\n',
    }
    first = await workshop.execute(await workshop.build(files))
    assert await workshop.execute(await workshop.build(files)) == first
    assert "Using cache" in workshop.log
    assert await workshop.execute(await workshop.build(files, use_cache=False)) != first
    assert "Using cache" not in workshop.log


async def test_build_arguments(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + "ARG WHAT=nothing\nARG ACTOR_PATH_IN_DOCKER_CONTEXT=unset\n"
        'RUN echo "$WHAT,$ACTOR_PATH_IN_DOCKER_CONTEXT." > /said\nCMD ["cat", "/said"]\n',
    }
    assert await workshop.execute(await workshop.build(files, WHAT="a b")) == "a b,.\n"


async def test_dockerignore_context_and_a_dockerfile_outside_of_it(workshop: Workshop) -> None:
    files = {
        ".actor/actor.json": '{"actorSpecification": 1, "dockerContextDir": "../app", "dockerfile": "./My.Dockerfile"}',
        ".actor/My.Dockerfile": BASE + 'COPY . ./\nCMD ["find", ".", "-type", "f"]\n',
        "outside.txt": "no",
        "app/.dockerignore": "# a comment\nnode_modules\n!node_modules/kept.js\n**/*.log\n",
        "app/main.py": "yes",
        "app/node_modules/left_out.js": "no",
        "app/node_modules/kept.js": "yes",
        "app/deep/down/x.log": "no",
        "app/deep/x.txt": "yes",
    }
    found = (await workshop.execute(await workshop.build(files))).split()
    # The engine itself keeps the Dockerfile out, as .dockerignore names it.
    assert sorted(found) == ["./.dockerignore", "./deep/x.txt", "./main.py", "./node_modules/kept.js"]


async def test_an_ignored_dockerfile_is_still_followed(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + 'COPY . ./\nCMD ["find", ".", "-type", "f"]\n',
        ".dockerignore": "Dockerfile\n.dockerignore\n",
        "main.py": "yes",
    }
    assert await workshop.execute(await workshop.build(files)) == "./main.py\n"


async def test_a_failing_step_fails_the_build_and_leaves_nothing(workshop: Workshop) -> None:
    marker = new_id()
    reason = await workshop.fails({"Dockerfile": BASE + f'RUN : {marker}; echo out && exit 3\nCMD ["true"]\n'})
    assert "returned a non-zero code: 3" in reason
    assert "out" in workshop.log
    assert await workshop.steps(marker) == []


async def test_bad_dockerfiles_say_what_is_wrong(workshop: Workshop) -> None:
    assert "unknown instruction" in (await workshop.fails({"Dockerfile": BASE + "FLY away\n"})).lower()
    assert "has no command" in await workshop.fails({"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "x"})


async def test_an_aborted_build_ends_its_step(workshop: Workshop) -> None:
    marker = new_id()
    files = {"Dockerfile": BASE + f'RUN : {marker}; echo begun && sleep 600\nCMD ["true"]\n'}
    building = asyncio.create_task(workshop.build(files, use_cache=False))
    async with asyncio.timeout(60):
        while "\nbegun" not in workshop.log:
            assert not building.done(), building
            await asyncio.sleep(0.01)
    assert len(await workshop.steps(marker)) == 1
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert await workshop.steps(marker) == []


async def test_a_removed_image_is_gone(workshop: Workshop) -> None:
    output = await workshop.build({"Dockerfile": BASE + 'CMD ["sleep", "600"]\n'})
    handle = await workshop.harness.runtime.start(workshop.harness.run_spec(output.state["image"]), no_checkpoint)
    with pytest.raises(ConnectionError, match="in use"):
        await workshop.builder.remove(output.state)
    await workshop.harness.runtime.stop(handle, 0)
    await workshop.harness.runtime.remove(handle)
    await workshop.builder.remove(output.state)
    await workshop.builder.remove(output.state)
    found = await workshop.engine.call("GET", "images/json")
    assert output.state["image"] not in {image["Id"] for image in found}


async def test_pip_installs_from_the_network(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + "COPY requirements.txt ./\nRUN pip install -r requirements.txt\nCOPY . ./\n"
        'CMD ["python", "main.py"]\n',
        "requirements.txt": "six==1.16.0\n",
        "main.py": "import six; print(six.__version__)\n",
    }
    assert await workshop.execute(await workshop.build(files)) == "1.16.0\n"
