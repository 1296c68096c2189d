"""``actorium demo``: the main job with the stock client, every claim checked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from apify_client import ApifyClient
from apify_client.errors import ApifyApiError
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from actorium.cli.options import console
from actorium.kit import random_text
from actorium.settings import load_settings

T = TypeVar("T")
_COUNT = 30
_ABORT_AFTER = 8
_DELAY_MILLIS = 150
_STARTUP_SECS = 60.0
_STEP_SECS = 120.0
_LOG_LINES = 6


class DemoError(Exception):
    """A step did not do what it says."""


def run_demo(*, leave_up: bool, port: int | None) -> int:
    """Run the demo; returns the exit code. ``leave_up`` waits for Ctrl-C at the end."""
    temporary = None if leave_up else Path(tempfile.mkdtemp(prefix="actorium-demo-"))
    data_dir = temporary or _demo_dir()
    token = f"demo-token-{random_text(20)}"
    try:
        with _server(data_dir, token, 0 if port is None and not leave_up else port) as (url, process):
            try:
                _show(ApifyClient(token, api_url=url))
            except (DemoError, ApifyApiError) as error:
                console.print(f"\n[bold red]The demo failed:[/] {escape(str(error))}")
                return 1
            console.print("\n[bold green]Everything did what it said.[/]")
            if leave_up:
                _stay(url, token, process)
    except DemoError as error:
        console.print(f"[bold red]The demo could not start:[/] {escape(str(error))}")
        return 1
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return 0


def _demo_dir() -> Path:
    data_dir = load_settings().data_dir
    return data_dir.with_name(data_dir.name + "-demo")


@contextmanager
def _server(data_dir: Path, token: str, port: int | None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "actorium", "up", "--data-dir", str(data_dir), "--token", token]
    command += ["--set", "log_level=warning"]
    if port is not None:
        command += ["--port", str(port)]
    console.rule("[bold]Actorium demo")
    console.print(f"Starting the platform: [cyan]actorium up --data-dir {data_dir}[/]", soft_wrap=True)
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        url = _wait_for_url(process)
        _result(f"up at {url} after {time.monotonic() - began:.1f} s")
        yield url, process
    finally:
        process.terminate()
        process.wait(60)


def _wait_for_url(process: subprocess.Popen[str]) -> str:
    if process.stdout is None:
        raise AssertionError("the process was started with a pipe")
    printed = []
    for line in process.stdout:
        printed.append(line)
        if match := re.search(r"is up at (http\S+)", line):
            # What else it prints must not fill the pipe, or it would wait for a reader.
            threading.Thread(target=process.stdout.read, daemon=True).start()
            return match[1]
    raise DemoError("the server ended: " + "".join(printed)[-1000:])


def _stay(url: str, token: str, process: subprocess.Popen[str]) -> None:
    console.print(f"\nThe platform stays up at [bold]{url}[/]. Use it with your tools:")
    for line in (
        f"export APIFY_CLIENT_BASE_URL={url}",
        f"export APIFY_TOKEN={token}",
        f"apify login --token {token}",
        "apify runs ls --limit 5",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print("Ctrl-C ends it.")
    try:
        process.wait()
    except KeyboardInterrupt:
        console.print("Stopping.")


def _show(client: ApifyClient) -> None:
    _story(client, "python-counter", "Python")
    if shutil.which("node") is None or shutil.which("npm") is None:
        console.print("\nNode.js was not found: the JavaScript sample is left out.")
        return
    _story(client, "javascript-counter", "JavaScript")


def _story(client: ApifyClient, name: str, language: str) -> None:
    """One sample Actor from its sources to its results."""
    console.rule(f"[bold]{language}: {name}")
    actor_id = _push(client, name)
    _build(client, actor_id)

    _call("POST", f"/v2/actors/{actor_id}/runs", f"start a run over {_COUNT} items")
    run = client.actor(actor_id).start(run_input={"count": _COUNT, "delayMillis": _DELAY_MILLIS}, memory_mbytes=512)
    _result(f"run {run.id} is {run.status}")

    _call("GET", f"/v2/logs/{run.id}", f"watch the log until item {_ABORT_AFTER} is done")
    _watch(client, run.id, lambda: _items(client, run) >= _ABORT_AFTER)

    _call("POST", f"/v2/actor-runs/{run.id}/abort?gracefully=true", "abort it gracefully")
    began = time.monotonic()
    answered = client.run(run.id).abort(gracefully=True)
    _expect("the answer's status", answered.status, {"ABORTING", "ABORTED"})
    aborted = _finished(client, run.id)
    _expect("the final status", aborted.status, {"ABORTED"})
    state = client.key_value_store(run.default_key_value_store_id).get_record("STATE")
    done = int(state["value"]["done"]) if state else 0
    items = _items(client, run)
    _expect("the saved state (items done)", done, {items})
    _expect("whether it stopped in the middle", _ABORT_AFTER <= items < _COUNT, {True})
    _result(
        f"ABORTED after {time.monotonic() - began:.1f} s; it heard 'aborting' and saved its state: {done} items done"
    )

    _call("POST", f"/v2/actor-runs/{run.id}/resurrect", "resurrect it")
    resurrected = client.run(run.id).resurrect()
    _result(f"run {resurrected.id} is {resurrected.status} again; it continues after item {done}")
    _watch(client, run.id, lambda: _there(client.run(run.id).get()).status not in {"READY", "RUNNING"})
    succeeded = _finished(client, run.id)
    _expect("the final status", succeeded.status, {"SUCCEEDED"})

    _call("GET", f"/v2/datasets/{run.default_dataset_id}/items", "read the results")
    results = client.dataset(run.default_dataset_id).list_items().items
    numbers = [item["number"] for item in results]
    _expect("the items, each once and in order", numbers == list(range(1, _COUNT + 1)), {True})
    log = client.log(run.id).get() or ""
    _expect("whether the log holds both lives", f"Continuing after item {done}" in log, {True})
    _print_results(results, succeeded)


def _push(client: ApifyClient, name: str) -> str:
    sources = _sources(name)
    existing = client.actor(f"{_there(client.user().get()).model_dump()['username']}/{name}").get()
    version = {"versionNumber": "0.1", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": sources}
    if existing is None:
        _call("POST", "/v2/actors", f"create the Actor {name} with {len(sources)} source files")
        actor_id = client.actors().create(name=name, versions=[version]).id
    else:
        actor_id = existing.id
        _call("PUT", f"/v2/actors/{actor_id}/versions/0.1", f"push {len(sources)} source files of {name}")
        client.actor(actor_id).version("0.1").update(
            source_type="SOURCE_FILES", source_files=sources, build_tag="latest"
        )
    _result(f"Actor {actor_id}")
    return str(actor_id)


def _sources(name: str) -> list[dict[str, Any]]:
    root = Path(str(files("actorium"))) / "samples" / name
    found = [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return [
        {"name": path.relative_to(root).as_posix(), "format": "TEXT", "content": path.read_text()}
        for path in found
        if "node_modules" not in path.parts
    ]


def _build(client: ApifyClient, actor_id: str) -> None:
    _call("POST", f"/v2/actors/{actor_id}/builds?version=0.1&useCache=true", "build it natively")
    began = time.monotonic()
    build = client.actor(actor_id).build(version_number="0.1", use_cache=True)
    _watch(client, build.id, lambda: _there(client.build(build.id).get()).status not in {"READY", "RUNNING"})
    built = _there(client.build(build.id).get())
    if built.status != "SUCCEEDED":
        raise DemoError(f"the build ended {built.status}:\n{(client.log(build.id).get() or '')[-3000:]}")
    _result(f"build {built.build_number} {built.status} after {time.monotonic() - began:.1f} s")


def _watch(client: ApifyClient, job_id: str, is_done: Callable[[], bool]) -> None:
    """Show the end of a log live until ``is_done``."""
    deadline = time.monotonic() + _STEP_SECS * 5
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        while True:
            finished = is_done()
            lines = (client.log(job_id).get() or "").splitlines()[-_LOG_LINES:]
            live.update(Text("\n".join(f"  | {line[25:]}"[: console.width - 1] for line in lines), style="dim"))
            if finished:
                return
            if time.monotonic() > deadline:
                raise DemoError(f"nothing more happened to {job_id} in {_STEP_SECS * 5:.0f} s")
            time.sleep(0.1)


def _finished(client: ApifyClient, run_id: str) -> Any:
    run = client.run(run_id).wait_for_finish(wait_duration=timedelta(seconds=_STEP_SECS))
    if run is None or run.finished_at is None:
        raise DemoError(f"run {run_id} did not end")
    return run


def _there(found: T | None) -> T:
    if found is None:
        raise DemoError("something that was just made is not there")
    return found


def _items(client: ApifyClient, run: Any) -> int:
    return int(client.dataset(run.default_dataset_id).list_items(limit=1).total)


def _expect(what: str, seen: object, expected: set[Any]) -> None:
    if seen not in expected:
        raise DemoError(f"{what}: expected {' or '.join(map(str, sorted(expected, key=str)))}, saw {seen}")


def _call(method: str, path: str, why: str) -> None:
    console.print(f"\n[bold cyan]{method}[/] {escape(path)}  [dim]# {escape(why)}[/]", highlight=False, soft_wrap=True)


def _result(text: str) -> None:
    console.print(f"  [green]->[/] {escape(text)}", highlight=False, soft_wrap=True)


def _print_results(results: list[dict[str, Any]], run: Any) -> None:
    table = Table(title=f"{len(results)} results, each exactly once")
    for name in results[0]:
        table.add_column(name)
    for item in [*results[:3], *results[-2:]]:
        table.add_row(*(str(value) for value in item.values()))
        if item is results[2]:
            table.add_row(*["..."] * len(item))
    console.print(table)
    stats = run.stats
    _result(
        f"{run.status}: {stats.run_time_secs:.1f} s in two lives, at most {(stats.mem_max_bytes or 0) / 2**20:.0f} MB, "
        f"{stats.compute_units:.6f} compute units"
    )
