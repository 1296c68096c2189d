"""``actorium doctor``: what this machine can do, and what follows from it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import uv
from rich.table import Table

from actorium.app.opening import Machine, examine_engine, open_database
from actorium.cli.options import console
from actorium.settings import Settings

_LOW_DISK_BYTES = 2 * 1024**3


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. ``level`` is ``ok``, ``note`` or ``problem``."""

    name: str
    level: str
    found: str
    consequence: str


class Report(msgspec.Struct, frozen=True):
    """Everything found. ``can_run``: native runs can execute here."""

    can_run: bool
    findings: tuple[Finding, ...]


def examine(settings: Settings) -> Report:
    """Look at the machine."""
    machine = Machine.examined()
    looks: tuple[Callable[[], Finding], ...] = (
        lambda: _pythons(machine),
        _uv,
        lambda: _node(machine),
        lambda: _browser(machine),
        lambda: _docker(settings),
        _bubblewrap,
        _cgroups,
        lambda: _database(settings),
        lambda: _disk(settings.data_dir),
        lambda: _port(settings.host, settings.port),
    )
    findings = tuple(look() for look in looks)
    can_run = not any(finding.level == "problem" for finding in findings if finding.name in ("uv", "data directory"))
    return Report(can_run, findings)


def print_report(report: Report, *, as_json: bool) -> None:
    """Print a report for people or, as JSON, for programs."""
    if as_json:
        print(json.dumps(msgspec.to_builtins(report), indent=2))
        return
    table = Table("", "what", "found", "what follows")
    signs = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}
    for finding in report.findings:
        table.add_row(signs[finding.level], finding.name, finding.found, finding.consequence)
    console.print(table)
    console.print("Native runs are not isolated from this account: run only Actors you trust.", highlight=False)


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _pythons(machine: Machine) -> Finding:
    if not machine.pythons:
        return Finding("Python", "problem", "none found", "Python Actors cannot be built natively.")
    return Finding(
        "Python", "ok", ", ".join(machine.pythons), "An Actor gets the one its base image names, else the newest."
    )


def _uv() -> Finding:
    found = _output(uv.find_uv_bin(), "--version")
    if found is None:
        return Finding("uv", "problem", "not working", "Nothing can be built natively; reinstall Actorium.")
    return Finding("uv", "ok", found, "Python dependencies are installed with it.")


def _node(machine: Machine) -> Finding:
    if not machine.nodes:
        return Finding(
            "Node.js", "note", "not found", "JavaScript Actors cannot be built natively; install Node.js 20+."
        )
    return Finding(
        "Node.js", "ok", ", ".join(machine.nodes), "An Actor gets the one its base image names, else the newest."
    )


def _browser(machine: Machine) -> Finding:
    if machine.chromium is None:
        return Finding("Chromium", "note", "not found", "Actors that open a browser cannot run natively.")
    return Finding("Chromium", "ok", machine.chromium, "Playwright, Puppeteer and Selenium open it in native runs.")


def _docker(settings: Settings) -> Finding:
    name = "Docker engine"
    found = asyncio.run(examine_engine(settings.docker_host))
    only = settings.builder == "docker"
    if not found.is_usable:
        consequence = "No Actor can be built; see docker_host." if only else "Actors can run as native processes only."
        return Finding(name, "problem" if only else "note", found.text, consequence)
    use = "Actors run in containers." if only else "Actors with ACTORIUM_BUILDER=docker run in containers."
    return Finding(name, "ok", found.text, use)


def _bubblewrap() -> Finding:
    found = _output("bwrap", "--version")
    if found is None:
        return Finding("bubblewrap", "note", "not found", "Native runs have no sandbox.")
    works = _output("bwrap", "--ro-bind", "/", "/", "--unshare-user", "--unshare-pid", "true") is not None
    state = "works" if works else "installed, but user namespaces are not allowed"
    return Finding("bubblewrap", "note", f"{found}, {state}", "Not used: native runs have no sandbox.")


def _cgroups() -> Finding:
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        kind, probe = "version 2", Path("/sys/fs/cgroup")
    elif Path("/sys/fs/cgroup/memory").is_dir():
        kind, probe = "version 1", Path("/sys/fs/cgroup/memory")
    else:
        return Finding("cgroups", "note", "none", "Memory limits are held by measuring every 0.1 to 0.4 s.")
    writable = "writable" if os.access(probe, os.W_OK) else "not writable"
    return Finding("cgroups", "ok", f"{kind}, {writable}", "Not needed: memory limits are held by measuring.")


def _database(settings: Settings) -> Finding:
    if not settings.database_url:
        return Finding("database", "ok", "SQLite in the data directory", "Nothing else is needed.")

    async def connect() -> None:
        db = open_database(settings)
        await db.start()
        await db.stop()

    try:
        asyncio.run(connect())
    except Exception as error:  # noqa: BLE001  whatever it is, it is the finding
        return Finding(
            "database",
            "problem",
            f"PostgreSQL: {type(error).__name__}: {error}"[:200],
            "The server cannot start; check database_url.",
        )
    return Finding("database", "ok", "PostgreSQL reachable", "The server uses it.")


def _disk(data_dir: Path) -> Finding:
    folder = next(parent for parent in (data_dir, *data_dir.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    text = f"{data_dir}: {free / 1024**3:.1f} GB free"
    if not os.access(folder, os.W_OK):
        return Finding("data directory", "problem", text, "It is not writable; choose another with --data-dir.")
    if free < _LOW_DISK_BYTES:
        return Finding("data directory", "note", text, "Little space: builds and records may fail.")
    return Finding("data directory", "ok", text, "Database, records, logs and images are kept here.")


def _port(host: str, port: int) -> Finding:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return Finding(
                "port",
                "note",
                f"{host}:{port}: {error.strerror}",
                "Another program listens there, perhaps a running server.",
            )
    return Finding("port", "ok", f"{host}:{port} is free", "The server can listen on it.")
