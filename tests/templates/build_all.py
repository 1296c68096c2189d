"""Builds and runs an Actor of every shape on this machine and writes docs/templates.md.

``python tests/templates/build_all.py [--keep FOLDER] [name ...]``: with names, only these, and no page is written.
Needs the package registries, Node.js and, for the browser shapes, Chromium with its driver; takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.platform import Platform
from templates.shapes import ANSWER, SHAPES, Shape

_PAGE = Path(__file__).parents[2] / "docs" / "templates.md"
_WAIT_SECS = 900.0
_HEAD = """# Templates

What becomes of an Actor of each official template's shape with the native builder: the same base image, the same steps
and the same libraries, with a small program of our own. Written by `make templates`, which builds and runs them all.

"""


class Result(msgspec.Struct, frozen=True):
    """What became of a shape. ``detail`` is a message where it did not run to its end."""

    shape: Shape
    outcome: str
    detail: str
    build_secs: float
    again_secs: float
    warnings: tuple[str, ...]


def try_shape(server: Platform, shape: Shape) -> Result:
    """Build it twice and run it."""
    sources = [{"name": name, "format": "TEXT", "content": text} for name, text in shape.files().items()]
    version = {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": sources}
    name = shape.name.lower().replace(" ", "-")
    actor = server.call("POST", "/v2/actors", {"name": name, "versions": [version]})
    build, build_secs = _timed(lambda: _build(server, actor["id"]))
    lines = server.log_lines(build["id"])
    warnings = tuple(line for line in lines if line.startswith("WARNING: ") and "skipped" not in line)
    if build["status"] != "SUCCEEDED":
        _show(lines)
        return Result(shape, "refused", lines[-1].removeprefix("ACTOR: "), build_secs, 0, warnings)
    _, again_secs = _timed(lambda: _build(server, actor["id"]))
    run = server.call("POST", f"/v2/actors/{actor['id']}/runs?timeout=120&memory=2048", {"who": "world"})
    run = server.ended(run["id"], 180)
    items = server.call("GET", f"/v2/datasets/{run['defaultDatasetId']}/items")
    if run["status"] == "SUCCEEDED" and items == [{"answer": ANSWER}]:
        return Result(shape, "built and ran", "", build_secs, again_secs, warnings)
    lines = server.log_lines(run["id"])
    _show(lines)
    said = [line for line in lines if "Error" in line] or lines or [""]
    return Result(shape, "built, did not run", said[0], build_secs, again_secs, warnings)


def _show(lines: list[str]) -> None:
    print("    | " + "\n    | ".join(lines[-25:]), flush=True)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


def _build(server: Platform, actor_id: str) -> dict[str, Any]:
    build = server.call("POST", f"/v2/actors/{actor_id}/builds?version=0.0&useCache=1")
    deadline = time.monotonic() + _WAIT_SECS
    while build["finishedAt"] is None and time.monotonic() < deadline:
        build = server.call("GET", f"/v2/actor-builds/{build['id']}?waitForFinish=20")
    return dict(build)


def _page(results: list[Result]) -> str:
    official = [result for result in results if result.shape.official]
    count = {outcome: sum(result.outcome == outcome for result in official) for outcome in _OUTCOMES}
    text = (
        f"{_HEAD}Of {len(official)} templates, {count['built and ran']} built and ran, {count['refused']} were refused"
    )
    text += f" and {count['built, did not run']} built but did not run.\n\n"
    text += _table(official)
    text += "\n## Other package managers\n\nNo template uses these; official projects do.\n\n"
    return text + _table([result for result in results if not result.shape.official])


_OUTCOMES = ("built and ran", "refused", "built, did not run")


def _table(results: list[Result]) -> str:
    rows = ["| Shape | Outcome | First build | Unchanged | Message |", "|---|---|---|---|---|"]
    for result in results:
        again = f"{result.again_secs:.1f} s" if result.again_secs else ""
        message = result.detail.replace("|", "\\|")[:300]
        rows.append(f"| {result.shape.name} | {result.outcome} | {result.build_secs:.0f} s | {again} | {message} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--keep", type=Path, help="a data directory whose package caches are used again")
    arguments = parser.parse_args()
    shapes = [shape for shape in SHAPES if not arguments.names or shape.name in arguments.names]
    with tempfile.TemporaryDirectory(prefix="actorium-templates-") as temporary:
        data_dir = arguments.keep or Path(temporary) / "data"
        server = Platform(data_dir).start()
        unexpected = 0
        try:
            server.first_token()
            results = []
            for shape in shapes:
                result = try_shape(server, shape)
                results.append(result)
                print(
                    f"{shape.name}: {result.outcome} {result.build_secs:.1f} s, again {result.again_secs:.1f} s "
                    f"{result.detail}",
                    flush=True,
                )
                expected = shape.refused or "built and ran"
                if not (result.detail if shape.refused else result.outcome).startswith(expected):
                    unexpected += 1
                    print(f"    expected: {expected}", flush=True)
        finally:
            server.stop()
    if not arguments.names:
        _PAGE.write_text(_page(results))
    print(f"{len(results)} shapes, {unexpected} not as expected")
    sys.exit(1 if unexpected else 0)


if __name__ == "__main__":
    main()
