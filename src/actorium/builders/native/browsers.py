"""Browsers of this machine where an Actor's base image has its own: variables, and Playwright's folder of them."""

from __future__ import annotations

import json
import os
import shlex
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from actorium.builders.native.steps import find_program

_CHROMIUM = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
_ROOT_UID = 0
# Where Playwright's own builds have their programs, in older and newer releases.
_CHROMIUM_PLACES = ("chrome-linux/chrome", "chrome-linux64/chrome")
_SHELL_PLACES = (
    "chrome-linux/headless_shell",
    "chrome-linux64/headless_shell",
    "chrome-headless-shell-linux64/chrome-headless-shell",
)
_PLACES = {"chromium": _CHROMIUM_PLACES, "chromium-headless-shell": _SHELL_PLACES}
# Chromium puts a socket into TMPDIR, whose whole path may have 107 characters, and ends where that is not enough.
_LONGEST_TMPDIR = 55
_SCRIPT = """#!/bin/sh
[ "${{#TMPDIR}}" -gt {longest} ] && export TMPDIR=/tmp
exec {program} "$@"
"""
_COMPLETE = "INSTALLATION_COMPLETE"


class Browsers(msgspec.Struct, frozen=True):
    """The machine's Chromium and its driver, ``None`` where there is none."""

    chromium: Path | None
    chromedriver: Path | None

    @staticmethod
    def of_machine() -> Browsers:
        """What PATH has."""
        found = (path for name in _CHROMIUM if (path := find_program(name)) is not None)
        return Browsers(next(found, None), find_program("chromedriver"))

    def wrapped(self, root: Path) -> Browsers:
        """The same behind scripts below ``root`` that make up for where runs have their files. Blocks."""
        return Browsers(_wrapper(root / "chromium", self.chromium), _wrapper(root / "chromedriver", self.chromedriver))

    def lacking(self, kind: str) -> str | None:
        """What is missing of the browser in a base image's name (``playwright-chrome``, ``selenium``), as a warning."""
        if self.chromium is None:
            return (
                f"the base image has a browser ({kind}); this machine has no Chromium. Install it if the Actor opens "
                "one (Debian: apt install chromium)."
            )
        if kind == "selenium" and self.chromedriver is None:
            return (
                "the base image has chromedriver; this machine has none. Install it if the Actor opens a browser "
                "(Debian: apt install chromium-driver)."
            )
        for name in ("firefox", "webkit"):
            if kind.endswith(name):
                return f"Playwright's own build of {name} is not there natively; only Chromium can be opened."
        return None

    def environment(self) -> dict[str, str]:
        """What SDKs and browser libraries read to find the browser."""
        if self.chromium is None:
            return {}
        path = str(self.chromium)
        names = (
            "APIFY_CHROME_EXECUTABLE_PATH",
            "APIFY_DEFAULT_BROWSER_PATH",
            "CRAWLEE_CHROME_EXECUTABLE_PATH",
            "CRAWLEE_DEFAULT_BROWSER_PATH",
            "CHROME_PATH",
            "CHROME_BIN",
            "PUPPETEER_EXECUTABLE_PATH",
        )
        found = dict.fromkeys(names, path)
        if self.chromedriver is not None:
            found["SE_CHROMEDRIVER"] = str(self.chromedriver)
        if os.geteuid() == _ROOT_UID:
            # Chromium's sandbox does not start for root, as in the platform's own containers.
            found |= {"CRAWLEE_DISABLE_BROWSER_SANDBOX": "1", "APIFY_DISABLE_BROWSER_SANDBOX": "1"}
        return found

    def playwright_folder(self, root: Path, packages: Iterable[Path]) -> dict[str, str]:
        """``PLAYWRIGHT_BROWSERS_PATH`` for the Playwright in ``packages`` (folders of its core), empty without any.

        Below ``root`` every revision they ask for is a folder of links to the machine's Chromium. Blocks.
        """
        if self.chromium is None:
            return {}
        found = False
        for package in packages:
            for folder, places in _revisions(package / "browsers.json"):
                found = True
                for place in places:
                    _link(root / folder / place, self.chromium)
                (root / folder / _COMPLETE).touch()
        return {"PLAYWRIGHT_BROWSERS_PATH": str(root)} if found else {}


def _wrapper(path: Path, program: Path | None) -> Path | None:
    if program is None:
        return None
    script = _SCRIPT.format(longest=_LONGEST_TMPDIR, program=shlex.quote(str(program)))
    if not path.exists() or path.read_text() != script:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another build may be about to start it.
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        temporary.write_text(script)
        temporary.chmod(0o755)
        temporary.rename(path)
    return path


def _revisions(file: Path) -> list[tuple[str, tuple[str, ...]]]:
    try:
        listed = json.loads(file.read_text("utf-8"))["browsers"]
    except (OSError, ValueError, KeyError):
        return []
    return [
        (f"{browser['name'].replace('-', '_')}-{browser['revision']}", places)
        for browser in listed
        if (places := _PLACES.get(browser["name"])) is not None
    ]


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and path.readlink() == target:
        return
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def playwright_packages(venv: Path | None, node_modules: Path | None) -> list[Path]:
    """The folders of Playwright's core in dependency trees."""
    found: list[Path] = []
    if venv is not None:
        found += venv.glob("lib/python*/site-packages/playwright/driver/package")
    if node_modules is not None:
        found.append(node_modules / "playwright-core")
        found += node_modules.glob(".pnpm/playwright-core@*/node_modules/playwright-core")
    return [path for path in found if path.is_dir()]
