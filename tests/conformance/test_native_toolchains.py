"""What the native builder finds: interpreters by the base image's version, browsers, what decides an install.

docs: actors, sections 4.1 and 4.3.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from actorium.builders import BuildFailed
from actorium.builders.dockerfile import parse_dockerfile
from actorium.builders.native.browsers import Browsers, playwright_packages
from actorium.builders.native.dependency_inputs import has_workspaces, node_files, python_files
from actorium.builders.native.package_managers import usual_release, wanted_release
from actorium.builders.native.stages import Language, base_image
from actorium.builders.native.toolchains import Toolchains, find_nodes


def _program(path: Path, prints: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {prints}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with three versions of Node.js, and a PATH with one more behind a shim."""
    for folder, version in (
        ("bin", "v20.9.0"),
        ("home/.nvm/versions/node/v22.1.0/bin", "v22.1.0"),
        ("home/.nvm/versions/node/v24.3.0/bin", "v24.3.0"),
        ("home/.local/share/fnm/node-versions/v24.11.1/installation/bin", "v24.11.1"),
        ("shims", "v18.0.0"),
    ):
        _program(tmp_path / folder / "node", version)
        _program(tmp_path / folder / "npm", "11.0.0")
    _program(tmp_path / "alone/node", "v19.0.0")
    monkeypatch.setattr(
        "actorium.builders.native.toolchains.server_path",
        lambda: f"{tmp_path}/shims:{tmp_path}/alone:{tmp_path}/bin:/usr/bin:/bin",
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


async def test_the_newest_node_of_the_base_images_major_version_is_used(home: Path) -> None:
    tools = Toolchains()
    chosen = await tools.node("24")
    assert (chosen.version, chosen.warning) == ("24.11.1", None)
    assert chosen.path.is_relative_to(home / ".local/share/fnm")
    assert (await tools.node("22.8")).version == "22.1.0"
    assert (await tools.node(None)).path == home.parent / "bin" / "node", "without a version PATH decides"
    assert (19, 0, 0) not in find_nodes(home), "a Node.js without npm installs nothing"
    assert (18, 0, 0) not in find_nodes(home), "a shim only stands for one of the others"


async def test_a_missing_version_is_named_with_those_there_are(home: Path) -> None:
    chosen = await Toolchains().node("26")
    assert chosen.version == "24.11.1"
    assert chosen.warning is not None
    assert chosen.warning.startswith("Node.js 26 is not installed on this machine (installed: ")
    assert "24.3.0, 24.11.1); Node.js 24.11.1 is used instead." in chosen.warning
    python = await Toolchains().python("2.7")
    assert python.warning is not None
    assert python.warning.startswith("Python 2.7 is not installed on this machine (installed: 3.")


async def test_bun_is_asked_for_only_where_it_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actorium.builders.native.toolchains.find_program", lambda _name: None)
    with pytest.raises(BuildFailed, match="Bun was not found on this machine"):
        await Toolchains().bun()


def test_base_images_say_language_version_and_browser() -> None:
    [instruction] = parse_dockerfile("FROM x\n", "Dockerfile")
    assert base_image(instruction, "apify/actor-node:24") == (Language.NODE, "24", "")
    assert base_image(instruction, "apify/actor-node-puppeteer-chrome:24-24.43.1")[1:] == ("24", "puppeteer-chrome")
    assert base_image(instruction, "docker.io/library/python:3.12-slim@sha256:0") == (Language.PYTHON, "3.12", "")
    assert base_image(instruction, "oven/bun:1.3") == (Language.BUN, "1.3", "")
    with pytest.raises(BuildFailed, match="Dockerfile line 1: FROM needs the browser Camoufox"):
        base_image(instruction, "apify/actor-python-playwright-camoufox:3.14")


def test_playwright_finds_the_machines_chromium_under_every_revision(tmp_path: Path) -> None:
    chromium = _program(tmp_path / "chromium", "Chromium")
    package = tmp_path / "node_modules" / "playwright-core"
    package.mkdir(parents=True)
    listed = [{"name": "chromium", "revision": "1200"}, {"name": "chromium-headless-shell", "revision": "1201"}]
    (package / "browsers.json").write_text(json.dumps({"browsers": [*listed, {"name": "webkit", "revision": "9"}]}))
    browsers = Browsers(chromium, None)
    found = playwright_packages(None, tmp_path / "node_modules")
    root = tmp_path / "browsers"
    for _ in range(2):
        assert browsers.playwright_folder(root, found) == {"PLAYWRIGHT_BROWSERS_PATH": str(root)}
    assert (root / "chromium-1200/chrome-linux64/chrome").resolve() == chromium
    shell = root / "chromium_headless_shell-1201/chrome-headless-shell-linux64/chrome-headless-shell"
    assert shell.resolve() == chromium
    assert sorted(path.name for path in root.iterdir()) == ["chromium-1200", "chromium_headless_shell-1201"]
    assert browsers.environment()["PUPPETEER_EXECUTABLE_PATH"] == str(chromium)
    assert Browsers(None, None).playwright_folder(root, found) == {}


def test_browsers_get_a_temporary_directory_short_enough_for_their_sockets(tmp_path: Path) -> None:
    chromium = tmp_path / "chromium"
    chromium.write_text('#!/bin/sh\necho "$TMPDIR $*"\n')
    chromium.chmod(0o755)
    wrapped = Browsers(chromium, None).wrapped(tmp_path / "programs")
    assert wrapped.chromedriver is None
    assert wrapped.chromium is not None
    said = [
        subprocess.run([wrapped.chromium, "a b"], env={"TMPDIR": given}, capture_output=True, text=True, check=True)
        for given in ("/short", f"/long{'x' * 80}")
    ]
    assert [one.stdout for one in said] == ["/short a b\n", "/tmp a b\n"]


def test_what_is_missing_of_a_browser_is_said() -> None:
    assert "apt install chromium)" in str(Browsers(None, None).lacking("playwright-chrome"))
    some = Path("/usr/bin/chromium")
    assert "chromium-driver" in str(Browsers(some, None).lacking("selenium"))
    assert "webkit" in str(Browsers(some, some).lacking("playwright-webkit"))
    assert Browsers(some, some).lacking("playwright-chrome") is None


@pytest.mark.parametrize(
    ("requirements", "files"),
    [
        ("six==1.16.0 --hash=sha256:0\n# note\n", ["r.txt"]),
        ("-r more.txt\nx @ https://host/x.whl\nhttpx[http2] >= 1 ; python_version > '3'\n", ["more.txt", "r.txt"]),
        ("./own\n", None),
        ("-e .\n", None),
        ("x @ file:///here\n", None),
        ("own/thing.whl\n", None),
        ("-r missing.txt\n", None),
    ],
)
def test_requirement_files_decide_an_install_unless_they_name_folders(
    tmp_path: Path, requirements: str, files: list[str] | None
) -> None:
    (tmp_path / "r.txt").write_text(requirements)
    (tmp_path / "more.txt").write_text("six\n")
    found = python_files(["-r", "r.txt"], tmp_path)
    assert (None if found is None else sorted(path.name for path in found)) == files


def test_packages_named_on_the_command_line(tmp_path: Path) -> None:
    assert python_files(["six", "poetry<3", "--upgrade"], tmp_path) == []
    assert python_files(["."], tmp_path) is None
    assert python_files(["--find-links", "wheels", "six"], tmp_path) is None


@pytest.mark.parametrize(
    ("package", "is_decided"),
    [
        ({"dependencies": {"a": "1"}}, True),
        ({"scripts": {"start": "node x", "postinstall": "node build.js"}}, False),
        ({"dependencies": {"a": "file:../a"}}, False),
        ({"workspaces": ["packages/*"]}, False),
        ({"overrides": {"a": "file:x"}}, False),
    ],
)
def test_manifests_decide_an_install_unless_they_run_or_name_files(
    tmp_path: Path, package: dict[str, object], is_decided: bool
) -> None:
    (tmp_path / "package.json").write_text(json.dumps(package))
    (tmp_path / "package-lock.json").write_text("{}")
    found = node_files(tmp_path)
    assert (found is not None) == is_decided
    if found is not None:
        assert [path.name for path in found] == ["package.json", "package-lock.json"]
    assert has_workspaces(tmp_path) == ("workspaces" in package)


def test_the_package_manager_a_project_asks_for(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"packageManager": "yarn@4.9.1+sha512.0"}')
    release = wanted_release("yarn", tmp_path)
    assert release is not None
    assert (release.package, release.version) == ("@yarnpkg/cli-dist", "4.9.1")
    assert wanted_release("pnpm", tmp_path) is None
    assert usual_release("pnpm").package == "pnpm"


def test_every_mount_of_a_run_is_read() -> None:
    [_, run] = parse_dockerfile(
        "FROM x\nRUN --mount=type=bind,source=a,target=b --mount=type=secret,id=s --network=none echo\n", "Dockerfile"
    )
    assert run.mounts == ({"type": "bind", "source": "a", "target": "b"}, {"type": "secret", "id": "s"})
    assert run.value == "echo"
