"""Builds and runs an Actor of every shape on this machine and writes docs/templates.md.

``python tests/templates/build_all.py [--keep FOLDER] [name ...]``: with names, only these are tried anew. Needs the
package registries, Node.js and, for the browser shapes, Chromium with its driver; takes a quarter of an hour.
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
and the same libraries, with a small program of our own. Written by `make templates`, which builds and runs them all on
a machine with CPython 3.9 to 3.13, Node.js 20 and 24, Bun and Debian's Chromium. A first build downloads what no shape
above has; where a shape has the sources of another one, it is that one's image.

"""


class Result(msgspec.Struct, frozen=True):
    """What became of a shape. ``detail`` is a message where it did not run to its end."""

    name: str
    outcome: str
    detail: str
    build_secs: float
    again_secs: float


def try_shape(server: Platform, shape: Shape) -> Result:
    """Build it twice and run it."""
    sources = [{"name": name, "format": "TEXT", "content": text} for name, text in shape.files().items()]
    version = {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": sources}
    name = f"{shape.name.lower().replace(' ', '-')}-{time.time_ns()}"[-60:]
    actor = server.call("POST", "/v2/actors", {"name": name, "versions": [version]})
    build, build_secs = _timed(lambda: _build(server, actor["id"]))
    lines = server.log_lines(build["id"])
    if build["status"] != "SUCCEEDED":
        _show(lines)
        return Result(shape.name, "refused", lines[-1].removeprefix("ACTOR: "), build_secs, 0)
    _, again_secs = _timed(lambda: _build(server, actor["id"]))
    run = server.call("POST", f"/v2/actors/{actor['id']}/runs?timeout=120&memory=2048", {"who": "world"})
    run = server.ended(run["id"], 180)
    items = server.call("GET", f"/v2/datasets/{run['defaultDatasetId']}/items")
    if run["status"] == "SUCCEEDED" and items == [{"answer": ANSWER}]:
        return Result(shape.name, "built and ran", "", build_secs, again_secs)
    lines = server.log_lines(run["id"])
    _show(lines)
    said = [line.replace(f"{server.data_dir}/runs/{run['id']}/work/", "") for line in lines if "Error" in line] or [""]
    return Result(shape.name, "built, did not run", said[0], build_secs, again_secs)


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
    official = [result for result in results if _BY_NAME[result.name].official]
    count = {outcome: sum(result.outcome == outcome for result in official) for outcome in _OUTCOMES}
    text = (
        f"{_HEAD}Of {len(official)} templates, {count['built and ran']} built and ran, {count['refused']} were refused"
    )
    text += f" and {count['built, did not run']} built but did not run.\n\n"
    text += _table(official)
    text += "\n## Other package managers\n\nNo template uses these; official projects do.\n\n"
    return text + _table([result for result in results if not _BY_NAME[result.name].official])


_OUTCOMES = ("built and ran", "refused", "built, did not run")
_BY_NAME = {shape.name: shape for shape in SHAPES}


def _table(results: list[Result]) -> str:
    rows = ["| Shape | Outcome | First build | Unchanged | Message |", "|---|---|---|---|---|"]
    for result in results:
        again = f"{result.again_secs:.1f} s" if result.again_secs else ""
        message = result.detail.replace("|", "\\|")[:300]
        rows.append(f"| {result.name} | {result.outcome} | {result.build_secs:.0f} s | {again} | {message} |")
    return "\n".join(rows) + "\n"


def _is_expected(result: Result) -> bool:
    refused = _BY_NAME[result.name].refused
    return (result.detail if refused else result.outcome).startswith(refused or "built and ran")


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="shapes to try; none: all")
    parser.add_argument("--keep", type=Path, help="a folder whose package caches and earlier results are used again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="actorium-templates-") as temporary:
        folder = (arguments.keep or Path(temporary)).absolute()
        folder.mkdir(exist_ok=True, parents=True)
        kept = folder / "results.json"
        results = msgspec.json.decode(kept.read_bytes(), type=dict[str, Result]) if kept.exists() else {}
        server = Platform(folder / "data").start()
        try:
            server.first_token()
            for shape in SHAPES:
                if arguments.names and shape.name not in arguments.names:
                    continue
                result = results[shape.name] = try_shape(server, shape)
                print(f"{shape.name}: {result.outcome} {result.build_secs:.1f} s {result.detail}", flush=True)
                kept.write_bytes(msgspec.json.encode(results))
        finally:
            server.stop()
    known = [results[shape.name] for shape in SHAPES if shape.name in results]
    if len(known) == len(SHAPES):
        _PAGE.write_text(_page(known))
    unexpected = [result.name for result in known if not _is_expected(result)]
    print(f"{len(known)} shapes; not as expected: {', '.join(unexpected) or 'none'}")
    sys.exit(1 if unexpected else 0)


if __name__ == "__main__":
    main()
