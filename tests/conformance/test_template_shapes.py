"""One Actor of each family of templates, built natively and run with the SDK's own storages.

`make templates` tries all of them.

docs: actors, section 4.2.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from actorium.builders import BuildFailed, BuildOutput, BuildSpec, Sources
from actorium.builders.native import NativeBuilder
from actorium.domain.models import SourceFile
from actorium.kit import new_id
from templates.shapes import ANSWER, SHAPES, Shape

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("template shapes")]

BY_NAME = {shape.name: shape for shape in SHAPES}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shapes")


async def build(root: Path, shape: Shape) -> BuildOutput:
    builder = NativeBuilder(root)
    await builder.open()
    files = tuple(SourceFile(name, "TEXT", text) for name, text in shape.files().items())
    log: list[bytes] = []
    try:
        return await builder.build(BuildSpec(new_id(), "0.0.1", "shape", Sources(files), {}, True), log.append)
    except BuildFailed as error:
        if not shape.refused:
            raise AssertionError(b"".join(log).decode()) from error
        raise


def run(output: BuildOutput, home: Path) -> list[dict[str, str]]:
    """What the image pushes when it is started the plain way, with storages in its own folder."""
    state, app = output.state, Path(output.state["app_dir"])
    for name, target in state["links"].items():
        (app / name).symlink_to(target)
    store = app / "storage/key_value_stores/default"
    store.mkdir(parents=True)
    (store / "INPUT.json").write_text('{"who": "world"}')
    env = {**state["env"], "PATH": ":".join([*state["bin_dirs"], os.environ["PATH"]]), "HOME": str(home)}
    env |= {"APIFY_LOCAL_STORAGE_DIR": str(app / "storage"), "CRAWLEE_PURGE_ON_START": "0", "APIFY_HEADLESS": "1"}
    done = subprocess.run(state["command"], cwd=app, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    items = (app / "storage/datasets/default").glob("0*.json")
    return [json.loads(item.read_text()) for item in sorted(items)]


def test_there_is_a_shape_for_each_official_template() -> None:
    assert len(SHAPES) == len(BY_NAME)
    assert sum(shape.official for shape in SHAPES) == 44


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("python-crawlee-parsel", marks=pytest.mark.long),
        pytest.param("python with uv sync", marks=pytest.mark.long),
        pytest.param("js with pnpm", marks=pytest.mark.node),
    ],
)
async def test_a_shape_builds_and_runs(root: Path, tmp_path: Path, name: str) -> None:
    assert run(await build(root, BY_NAME[name]), tmp_path) == [{"answer": ANSWER}]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if "line" in shape.refused], ids=lambda shape: shape.name)
async def test_a_shape_that_cannot_be_built_says_why(root: Path, shape: Shape) -> None:
    with pytest.raises(BuildFailed) as error:
        await build(root, shape)
    assert str(error.value).startswith(shape.refused)
