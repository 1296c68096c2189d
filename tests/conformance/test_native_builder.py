"""The native builder on real tools: uv, Python, and (marked) Node.js."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from actorium.builders import BuildFailed, BuildOutput, BuildSpec, Sources
from actorium.builders.native import NativeBuilder
from actorium.domain.models import SourceFile
from actorium.kit import new_id

pytestmark = pytest.mark.timeout(180)

BASE = "FROM apify/actor-python:3.11\n"


class Workshop:
    """A builder and what it printed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.builder = NativeBuilder(root)
        self.log = ""

    async def build(self, files: dict[str, str], *, use_cache: bool = True, **build_args: str) -> BuildOutput:
        sources = Sources(tuple(SourceFile(name, "TEXT", text) for name, text in files.items()))
        self.log = ""
        spec = BuildSpec(new_id(), "0.1.1", "actor", sources, build_args, use_cache)

        def write(data: bytes) -> None:
            self.log += data.decode()

        try:
            return await self.builder.build(spec, write)
        except BuildFailed as error:
            error.add_note(self.log)
            raise

    async def fails(self, files: dict[str, str]) -> str:
        with pytest.raises(BuildFailed) as error:
            await self.build(files)
        assert list((self.root / "work").iterdir()) == []
        return str(error.value)


@pytest.fixture
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    found = Workshop(tmp_path / "builds")
    await found.builder.open()
    yield found
    await found.builder.close()


def execute(output: BuildOutput) -> str:
    """Run an image's command the plain way."""
    state = output.state
    for name, target in state["links"].items():
        (Path(state["app_dir"]) / name).symlink_to(target)
    env = {**state["env"], "PATH": ":".join([*state["bin_dirs"], os.environ["PATH"]])}
    done = subprocess.run(state["command"], cwd=state["app_dir"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_a_package_is_installed_once(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + "COPY requirements.txt ./\nRUN pip install -r requirements.txt\nCOPY . ./\n"
        'CMD ["python", "main.py"]\n',
        "requirements.txt": "six==1.16.0\n",
        "main.py": "import six; print(six.__version__)\n",
    }
    output = await workshop.build(files)
    assert "Step 3/5 : RUN pip install -r requirements.txt" in workshop.log
    assert "six==1.16.0" in workshop.log
    assert execute(output) == "1.16.0\n"
    assert output.size_bytes > 10_000
    assert output.state["command"][0].endswith("/bin/python")
    changed = {**files, "main.py": "import six; print('again', six.__version__)\n"}
    again = await workshop.build(changed)
    assert "Using cached dependencies" in workshop.log
    assert "+ six==1.16.0" not in workshop.log, "no installer was called"
    assert execute(again) == "again 1.16.0\n"
    await workshop.build(files, use_cache=False)
    assert "Using cached dependencies" not in workshop.log


async def test_two_builds_of_one_key_at_once(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE
        + "COPY . ./\nRUN pip install six==1.16.0\n"
        + 'CMD ["python", "-c", "import six; print(1)"]\n',
        "x": "x",
    }
    outputs = await asyncio.gather(*(workshop.build(files) for _ in range(3)))
    assert {execute(output) for output in outputs} == {"1\n"}
    assert len({output.state["trees"][0] for output in outputs}) == 1


async def test_trees_go_with_the_last_image(workshop: Workshop) -> None:
    files = {"Dockerfile": BASE + "COPY . ./\nRUN pip install six\n", "src/__main__.py": "print(1)\n"}
    first, second = await workshop.build(files), await workshop.build(files)
    tree = Path(first.state["bin_dirs"][0]).parent
    await workshop.builder.remove(first.state)
    assert tree.exists()
    assert execute(second) == "1\n"
    await workshop.builder.remove(second.state)
    assert not tree.exists()
    await workshop.builder.remove(second.state)
    assert execute(await workshop.build(files)) == "1\n"


async def test_changed_sources_copied_before_the_install_leave_the_dependencies(workshop: Workshop) -> None:
    files = {"Dockerfile": BASE + "COPY . ./\nRUN pip install -r requirements.txt\n", "requirements.txt": "six\n"}
    first = await workshop.build({**files, "src/__main__.py": "print(1)\n"})
    second = await workshop.build({**files, "src/__main__.py": "import six; print(2)\n"})
    assert "Using cached dependencies" in workshop.log
    assert first.state["trees"] == second.state["trees"]
    third = await workshop.build({**files, "requirements.txt": "six==1.16.0\n", "src/__main__.py": "print(3)\n"})
    assert third.state["trees"] != first.state["trees"]
    assert (execute(second), execute(third)) == ("2\n", "3\n")


async def test_unchanged_sources_take_the_image_they_made_before(workshop: Workshop) -> None:
    files = {"Dockerfile": BASE + "COPY . ./\n", "src/__main__.py": "print(1)\n"}
    first = await workshop.build(files)
    second = await workshop.build(files)
    assert "Nothing has changed since build" in workshop.log
    assert "Step 1/2" not in workshop.log
    await workshop.builder.remove(first.state)
    assert execute(second) == "1\n"
    assert execute(await workshop.build(files)) == "1\n"
    assert "Nothing has changed" in workshop.log
    await workshop.build(files, WHO="somebody")
    assert "Nothing has changed" not in workshop.log, "build arguments count"
    await workshop.build(files, use_cache=False)
    assert "Step 1/2" in workshop.log


async def test_bind_mounts_are_there_for_one_step_only(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE
        + "RUN --mount=type=cache,target=/root/.cache --mount=type=bind,source=req.txt,target=in.txt "
        'pip install -r in.txt\nCOPY main.py ./\nCMD ["uv", "run", "--no-sync", "python", "main.py"]\n',
        "req.txt": "six==1.16.0\n",
        "main.py": "import os, six; print(sorted(os.listdir('.')), six.__version__)\n",
    }
    printed = execute(await workshop.build(files))
    assert "in.txt" not in printed
    assert printed.endswith(" 1.16.0\n")


async def test_a_step_sees_only_what_was_copied(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + "COPY a.txt ./\nRUN pip install -r later.txt\nCOPY . ./\n",
        "a.txt": "a",
        "later.txt": "six\n",
    }
    message = await workshop.fails(files)
    assert message.startswith("Dockerfile line 3: the command 'pip install -r later.txt' failed")


async def test_stages_copy_globs_env_and_ignored_files(workshop: Workshop) -> None:
    files = {
        "Dockerfile": "ARG WHO=nobody\nFROM apify/actor-python:3.11 AS builder\nWORKDIR /usr/src/app\n"
        "COPY *.txt made/\nRUN mkdir -p out && rm -rf made/b.txt\nENV FROM_STAGE=1\n"
        'FROM apify/actor-python:3.11\nARG WHO\nENV GREETING="hello $WHO" PATH=/x:$PATH\n'
        "COPY --from=builder --chown=a:b /usr/src/app/made ./made\nCOPY . ./\n"
        'ENTRYPOINT ["python"]\nCMD ["main.py"]\n',
        ".dockerignore": "secret.txt\n",
        "a.txt": "a",
        "b.txt": "b",
        "secret.txt": "s",
        "main.py": "import os; print(sorted(os.listdir('.')), os.listdir('made'), os.environ['GREETING'], "
        "'FROM_STAGE' in os.environ)\n",
    }
    printed = execute(await workshop.build(files, WHO="world"))
    assert "'a.txt', 'b.txt', 'made', 'main.py']" in printed
    assert printed.endswith("['a.txt'] hello world False\n")
    assert "secret" not in printed


async def test_system_packages_are_skipped_with_a_warning(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + "RUN apt-get update && apt-get install -y jq curl\nCOPY . ./\n",
        "src/__main__.py": "x=1",
    }
    await workshop.build(files)
    assert "WARNING: skipped 'apt-get install -y jq curl'" in workshop.log
    assert "jq, curl" in workshop.log


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM ubuntu:22.04\n", "Dockerfile line 1: FROM uses the base image ubuntu:22.04"),
        (BASE + "RUN curl x | sh\n", "Dockerfile line 2: RUN uses curl"),
        (BASE + "\n# c\nRUN chmod +x y\n", "Dockerfile line 4: RUN uses 'chmod'"),
        (BASE + "ADD https://x/y.tgz ./\n", "Dockerfile line 2: ADD adds a URL"),
        (BASE + "COPY --from=redis:7 /a ./\n", "Dockerfile line 2: COPY copies from the image redis:7"),
        (BASE + "COPY nothing.txt ./\n", "Dockerfile line 2: COPY found no file for nothing.txt"),
        (BASE + 'CMD ["sh", "-c", "a & b"]\n', "Dockerfile line 2: CMD uses a shell"),
        (BASE + "CMD a && b\n", "Dockerfile line 2: CMD uses the shell"),
        (BASE + "ONBUILD RUN x\n", "Dockerfile line 2: ONBUILD is not known"),
        (BASE + "RUN --mount=type=secret,id=x npm install\n", "Dockerfile line 2: RUN mounts secrets"),
        (BASE + "RUN --mount=type=ssh --mount=type=cache,target=/x echo\n", "Dockerfile line 2: RUN mounts secrets"),
        ("COPY . ./\n", "Dockerfile line 1: COPY comes before FROM"),
        ("# nothing\n", "Dockerfile has no FROM"),
    ],
)
async def test_refusals_name_file_line_and_instruction(workshop: Workshop, dockerfile: str, message: str) -> None:
    assert (await workshop.fails({"Dockerfile": dockerfile, "x": "x"})).startswith(message)


async def test_a_command_that_is_nowhere_fails_the_build(workshop: Workshop) -> None:
    message = await workshop.fails({"Dockerfile": BASE + 'COPY . ./\nCMD ["no-such-program"]\n', "x": "x"})
    assert "'no-such-program'" in message


async def test_defaults_without_a_dockerfile(workshop: Workshop) -> None:
    files = {"requirements.txt": "six\n", "my_actor/__init__.py": "#\n", "my_actor/__main__.py": "print('package')\n"}
    output = await workshop.build(files)
    assert execute(output) == "package\n"
    assert output.state["env"]["PYTHONUNBUFFERED"] == "1"


async def test_steps_see_nothing_of_the_server(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIFY_TOKEN", "the-operators-own")
    setup = (
        "import os, pathlib\nfrom setuptools import setup\n"
        "assert 'APIFY_TOKEN' not in os.environ\n"
        "home = pathlib.Path.home()\nassert 'builds' in str(home), home\n"
        "setup(name='probe', version='1', py_modules=[])\n"
    )
    files = {
        "Dockerfile": BASE + "COPY . ./\nRUN pip install setuptools && pip install --no-build-isolation .\n",
        "setup.py": setup,
        "src/__main__.py": "x = 1\n",
    }
    await workshop.build(files)


async def test_cancelling_ends_the_whole_step(workshop: Workshop, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    setup = (
        "import os, subprocess, time\n"
        f"child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        f"open({str(marker)!r}, 'w').write(str(child.pid))\ntime.sleep(600)\n"
    )
    files = {
        "Dockerfile": BASE + "COPY . ./\nRUN pip install setuptools && pip install --no-build-isolation .\n",
        "setup.py": setup,
    }
    task = asyncio.create_task(workshop.build(files))
    async with asyncio.timeout(60):
        while not marker.exists() or not marker.read_text():
            await asyncio.sleep(0)
    pid = int(marker.read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{pid}/cmdline").exists() or Path(f"/proc/{pid}/cmdline").read_bytes() == b""
    assert list((workshop.root / "work").iterdir()) == []
    assert list((workshop.root / "images").iterdir()) == []


async def test_leftovers_of_a_killed_server_are_removed(workshop: Workshop) -> None:
    (workshop.root / "work" / "old").mkdir()
    await workshop.builder.open()
    assert list((workshop.root / "work").iterdir()) == []


@pytest.mark.long
async def test_poetry_exports_its_lock_to_pip(workshop: Workshop) -> None:
    files = {
        "Dockerfile": BASE + "RUN pip install 'poetry<3' && poetry self add poetry-plugin-export\n"
        "COPY pyproject.toml poetry.lock ./\nRUN poetry config virtualenvs.create false && poetry export --format "
        "requirements.txt --without-hashes | pip install -r /dev/stdin --no-dependencies\nCOPY . ./\n",
        "pyproject.toml": '[project]\nname = "shape"\nversion = "0.0.1"\nrequires-python = ">=3.11,<4"\n'
        'dependencies = ["six (==1.16.0)"]\n\n[tool.poetry]\npackage-mode = false\n',
        "poetry.lock": '[[package]]\nname = "six"\nversion = "1.16.0"\ndescription = ""\noptional = false\n'
        'python-versions = ">=2.7"\ngroups = ["main"]\nfiles = []\n\n[metadata]\nlock-version = "2.1"\n'
        'python-versions = ">=3.11,<4"\n'
        'content-hash = "685c38695e846b2365fb6e00857607b7aae599073494c1be06c6abe9fe4819ae"\n',
        "src/__main__.py": "import six; print(six.__version__)\n",
    }
    assert execute(await workshop.build(files)) == "1.16.0\n"


NODE: dict[str, Any] = {
    "package.json": '{"name": "x", "type": "module", "scripts": {"start": "node main.js", "build": "tsc"}, '
    '"dependencies": {"is-number": "7.0.0"}, "devDependencies": {"typescript": "5.6.3"}}',
    "main.js": "import isNumber from 'is-number'; console.log(isNumber(5), process.env.NODE_ENV);\n",
}


@pytest.mark.node
async def test_node_dependencies_are_installed_once(workshop: Workshop) -> None:
    dockerfile = (
        "FROM apify/actor-node:20\nCOPY package*.json ./\nRUN npm --quiet set progress=false "
        "&& npm install --omit=dev --omit=optional && (npm list --all || true) && rm -r ~/.npm\nCOPY . ./\n"
    )
    files = {**NODE, "Dockerfile": dockerfile + "CMD npm start --silent\n"}
    assert execute(await workshop.build(files)) == "true production\n"
    await workshop.build({**files, "other.js": "1"})
    assert "Using cached dependencies" in workshop.log
    assert "added" not in workshop.log


@pytest.mark.node
async def test_a_package_manager_of_the_project_comes_from_the_registry(workshop: Workshop) -> None:
    package = {"name": "x", "type": "module", "packageManager": "pnpm@9.15.9", "dependencies": {"is-number": "7.0.0"}}
    files = {
        "Dockerfile": "FROM apify/actor-node:20\nRUN corepack enable\nCOPY package.json ./\nRUN pnpm install --prod\n"
        'COPY . ./\nCMD ["node", "main.js"]\n',
        "package.json": json.dumps(package),
        "main.js": NODE["main.js"],
    }
    assert execute(await workshop.build(files)) == "true production\n"
    workspaces = {**files, "package.json": json.dumps({**package, "workspaces": ["packages/*"]})}
    assert "installs a project with workspaces" in await workshop.fails(workspaces)


@pytest.mark.node
async def test_typescript_in_two_stages(workshop: Workshop) -> None:
    files = {
        **NODE,
        "Dockerfile": "FROM apify/actor-node:20 AS builder\nCOPY package*.json ./\n"
        "RUN npm install --include=dev --audit=false\nCOPY . ./\nRUN npm run build\n"
        "FROM apify/actor-node:20\nCOPY package*.json ./\nRUN npm install --omit=dev --omit=optional\n"
        'COPY --from=builder /usr/src/app/dist ./dist\nCOPY . ./\nCMD ["node", "dist/main.js"]\n',
        "tsconfig.json": '{"compilerOptions": {"outDir": "dist", "rootDir": "src", "module": "nodenext", '
        '"target": "es2022", "types": []}, "include": ["src"]}',
        "src/main.ts": "const answer: number = 42;\ndeclare const console: any;\nconsole.log(answer);\n",
        ".dockerignore": "dist\nnode_modules\n",
    }
    output = await workshop.build(files)
    assert execute(output) == "42\n"
    assert not (Path(output.state["links"]["node_modules"]) / "typescript").exists()
