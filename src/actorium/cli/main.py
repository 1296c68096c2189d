"""Commands: up, serve, doctor, demo, settings, migrate, drain, cleanup, users, tokens; ``dev`` and ``exchange``."""

from __future__ import annotations

import asyncio
import getpass
import json as json_
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import cyclopts
from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from actorium.app.opening import capacity_of, open_accounts, open_migrations, open_retention
from actorium.app.serving import ServerInfo, serve
from actorium.cli.dev import dev
from actorium.cli.exchange import commands as exchange
from actorium.cli.options import Config, DataDir, Set, console, fail, read_settings
from actorium.domain.accounts import Role, UserLimits
from actorium.domain.errors import ApiError
from actorium.domain.times import iso, iso_or_none
from actorium.domain.token_scopes import TokenScope, parse_scope
from actorium.services.accounts import Accounts
from actorium.services.audit_log import acting
from actorium.settings import SETTINGS, Settings
from actorium.storage.data_directory import InUseError
from actorium.storage.db import SchemaTooNewError

T = TypeVar("T")
_DRAIN_POLL_SECS = 0.5
_DRAIN_MARGIN_SECS = 60.0
_MOST_LISTED = 1000
Host = Annotated[str | None, Parameter(help="Address to listen on.")]
Port = Annotated[int | None, Parameter(help="Port to listen on; 0 takes a free one.")]

app = cyclopts.App(
    name="actorium",
    help="Runs Apify Actors on this machine, behind the Apify API v2.",
    version=version("actorium"),
)
users = cyclopts.App(name="users", help="Add, list and remove users.")
tokens = cyclopts.App(name="tokens", help="Create, list and revoke API tokens.")
app.command(dev)
app.command(users)
app.command(tokens)
exchange.register(app)


def main() -> None:
    """The console script."""
    app()


@app.command
def up(
    *,
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    token: Annotated[str | None, Parameter(help="Token of the first user, instead of a random one.")] = None,
    ephemeral: Annotated[
        bool, Parameter(help="Keep everything in a temporary directory, on a free port, until the end.", negative=())
    ] = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Start the server for work on this machine. Ctrl-C stops live runs; the next start continues them."""
    temporary = Path(tempfile.mkdtemp(prefix="actorium-")) if ephemeral else None
    if ephemeral and port is None:
        port = 0
    settings = read_settings(config, set_, data_dir=temporary or data_dir, host=host, port=port)
    try:
        _serve(settings, stop_runs=True, first_token=token, on_ready=_greet)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@app.command(name="serve")
def serve_command(
    *,
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    stop_runs: Annotated[
        bool, Parameter(help="On Ctrl-C stop live runs; the next start continues them.", negative=())
    ] = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Start the server as a service. Live runs survive its end and restart."""
    settings = read_settings(config, set_, data_dir=data_dir, host=host, port=port)
    _serve(settings, stop_runs=stop_runs, first_token=None, on_ready=_print_first_token)


def _serve(
    settings: Settings, *, stop_runs: bool, first_token: str | None, on_ready: Callable[[ServerInfo], None]
) -> None:
    try:
        serve(settings, stop_runs=stop_runs, first_token=first_token, on_ready=on_ready)
    except (InUseError, SchemaTooNewError, ApiError, ValueError) as error:
        fail(str(error))


def _greet(info: ServerInfo) -> None:
    console.print(f"\n[bold green]Actorium is up[/] at [bold]{info.base_url}[/]   data: {info.data_dir}\n")
    token = info.first_token or "<token>"
    console.print("Connect your tools:", highlight=False)
    console.print(f"  export APIFY_CLIENT_BASE_URL={info.base_url}", highlight=False, soft_wrap=True)
    console.print(f"  export APIFY_TOKEN={token}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"  apify login --token {token}", highlight=False, markup=False, soft_wrap=True)
    if info.first_token is None:
        console.print(f"\nA new token: [bold]actorium tokens create {info.username}[/]", highlight=False)
    else:
        console.print(f"\nThis token belongs to the user {info.username} and is shown only now.", highlight=False)
    console.print("Ctrl-C stops the server and its runs; the next start continues them.\n", highlight=False)


def _print_first_token(info: ServerInfo) -> None:
    if info.first_token is not None:
        console.print(
            f"First user: {info.username}   token, shown only now: {info.first_token}", highlight=False, soft_wrap=True
        )


@app.command
def doctor(
    *,
    data_dir: DataDir = None,
    json: Annotated[bool, Parameter(help="Print the report as JSON.", negative=())] = False,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Say what this machine can do for Actors, and what follows from it."""
    from actorium.cli.doctor import examine, print_report

    report = examine(read_settings(config, set_, data_dir=data_dir))
    print_report(report, as_json=json)
    raise SystemExit(0 if report.can_run else 1)


@app.command
def demo(
    *,
    exit_: Annotated[bool, Parameter(name="--exit", help="End instead of leaving the server up.", negative=())] = False,
    port: Port = None,
) -> None:
    """Push sample Actors, run, abort and resurrect them, and show every call that is made."""
    from actorium.cli.demo import run_demo  # brings the client, which a server does not need

    raise SystemExit(run_demo(leave_up=not exit_, port=port))


@app.command
def settings(*, data_dir: DataDir = None, config: Config = None, set_: Set = None) -> None:
    """Print every setting with its value here."""
    values = read_settings(config, set_, data_dir=data_dir)
    table = Table("setting", "value", "environment variable", "meaning")
    for setting in SETTINGS:
        value = getattr(values, setting.name)
        shown = "***" if setting.secret and value else str(value)
        table.add_row(setting.name, escape(shown), setting.env_var, setting.help)
    console.print(table)


@app.command
def migrate(*, data_dir: DataDir = None, config: Config = None, set_: Set = None) -> None:
    """Bring the database to this program's schema. The server does it too when it starts."""

    async def nothing(_accounts: Accounts) -> None:
        return

    _with_accounts(read_settings(config, set_, data_dir=data_dir), nothing)
    console.print("The database is up to date.")


@app.command
def drain(
    *,
    end: Annotated[bool, Parameter(help="Let the server start runs again.", negative=())] = False,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Move all live runs off the running server and let it start none, until 'actorium drain --end'.

    Returns when no run has a process any more. Runs that are started meanwhile wait in READY.
    """
    settings_ = read_settings(config, set_, data_dir=data_dir)

    async def work() -> None:
        async with open_migrations(settings_) as migrations:
            if end:
                was_draining = await migrations.end_drain()
                console.print("The server starts runs again." if was_draining else "The server was not drained.")
                return
            loop = asyncio.get_running_loop()
            deadline = loop.time() + settings_.requested_migration_window_secs + _DRAIN_MARGIN_SECS
            while left := await migrations.drain():
                if loop.time() > deadline:
                    fail(f"Runs that still have a process: {left}. Is the server running?")
                await asyncio.sleep(_DRAIN_POLL_SECS)
            console.print("No run has a process. 'actorium drain --end' lets the server start runs again.")

    asyncio.run(work())


@app.command
def cleanup(
    *,
    dry_run: Annotated[bool, Parameter(help="Only list what would be deleted.", negative=())] = False,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Delete what has outlived the days that the settings and users keep it for; a server does so every hour.

    Beside a running server, or without one. The contents of deleted storages are removed by the server.
    """
    settings_ = read_settings(config, set_, data_dir=data_dir)

    async def work() -> None:
        async with open_retention(settings_) as retention:
            found = await retention.expired(_MOST_LISTED)
            if not dry_run:
                await retention.sweep()
            rows = [["run", run.id, iso(run.finished_at)] for run in found.runs]
            rows += [["build", build_id, ""] for build_id in found.build_ids]
            rows += [[kind.value, storage_id, ""] for kind, storage_id in found.storages]
            _print_table(["kind", "id", "finished"], rows)
            listed = (found.runs, found.build_ids, found.storages)
            if any(len(kind) == _MOST_LISTED for kind in listed):
                console.print(f"Of each kind the first {_MOST_LISTED} are listed.")
            console.print("Nothing was deleted." if dry_run else "Deleted.")

    asyncio.run(work())


def _with_accounts(settings_: Settings, act: Callable[[Accounts], Awaitable[T]]) -> T:
    async def work() -> T:
        async with open_accounts(settings_) as accounts:
            with acting(getpass.getuser(), "actorium " + " ".join(sys.argv[1:3])):
                return await act(accounts)

    try:
        return asyncio.run(work())
    except (ApiError, SchemaTooNewError) as error:
        fail(str(error))
        raise


@users.command(name="add")
def add_user(
    username: str,
    *,
    email: str | None = None,
    admin: Annotated[bool, Parameter(help="Make the user an administrator.", negative=())] = False,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Add a user. It needs a token to sign in: see 'actorium tokens create'."""
    user = _with_accounts(
        read_settings(config, set_, data_dir=data_dir),
        lambda accounts: accounts.add_user(username, email, Role.ADMIN if admin else Role.USER),
    )
    console.print(f"Added user {user.username} ({user.id}).", highlight=False)


@users.command(name="list")
def list_users(*, data_dir: DataDir = None, config: Config = None, set_: Set = None) -> None:
    """List all users."""
    found = _with_accounts(read_settings(config, set_, data_dir=data_dir), lambda accounts: accounts.list_users())
    _print_table(
        ["username", "id", "email", "role", "created"],
        [[u.username, u.id, u.email, u.role, iso(u.created_at)] for u in found],
    )


@users.command(name="remove")
def remove_user(username: str, *, data_dir: DataDir = None, config: Config = None, set_: Set = None) -> None:
    """Remove a user with everything that is theirs. Refused while a run of theirs is not over."""
    _with_accounts(read_settings(config, set_, data_dir=data_dir), lambda accounts: accounts.remove_user(username))
    console.print(f"Removed user {username}.", highlight=False)


@users.command(name="role")
def set_role(username: str, role: Role, *, data_dir: DataDir = None, config: Config = None, set_: Set = None) -> None:
    """Make a user an administrator, who sees the whole audit log, or an ordinary user again."""
    _with_accounts(read_settings(config, set_, data_dir=data_dir), lambda accounts: accounts.set_role(username, role))
    console.print(f"User {username} is {role.value} now.", highlight=False)


@users.command(name="limits")
def user_limits(
    username: str,
    *,
    memory_mbytes: Annotated[
        str | None, Parameter(help="Memory of all live runs together; 'default': as the settings say.")
    ] = None,
    concurrent_runs: Annotated[
        str | None, Parameter(help="Most runs with a live process; 'default': as the settings say.")
    ] = None,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Show or set what a user's runs may hold at once. A running server knows it with the next run it starts."""
    given = {"max_memory_mbytes": memory_mbytes, "max_concurrent_runs": concurrent_runs}
    changes = {name: _limit(name, text) for name, text in given.items() if text is not None}
    settings_ = read_settings(config, set_, data_dir=data_dir)

    async def act(accounts: Accounts) -> UserLimits:
        if changes:
            await accounts.set_limits(username, changes)
        return await accounts.get_limits(username)

    own, usual = _with_accounts(settings_, act), capacity_of(settings_).user
    rows = [
        ["memory (MB)", own.max_memory_mbytes, usual.memory_mbytes],
        ["concurrent runs", own.max_concurrent_runs, usual.run_count],
    ]
    _print_table(
        ["limit", username, "by the settings"],
        [[name, "as the settings say" if value is None else value, default] for name, value, default in rows],
    )


def _limit(name: str, text: str) -> int | None:
    if text == "default":
        return None
    try:
        return int(text)
    except ValueError:
        fail(f"{name} is {text!r}: it must be a whole number, or 'default'.")
        raise


@tokens.command(name="create")
def create_token(
    username: str,
    *,
    name: str = "cli",
    token: Annotated[
        str | None, Parameter(help="Text of the token, at least 16 characters, instead of a random one.")
    ] = None,
    expires: Annotated[datetime | None, Parameter(help="When it stops working, such as 2027-01-31.")] = None,
    scope: Annotated[
        str | None,
        Parameter(help="What it may do, as JSON or @file: see docs/accounts.md; resources by their ids. Default: all."),
    ] = None,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Create an API token of a user and print it; it is shown only now."""
    expires_at = None if expires is None else round(expires.replace(tzinfo=expires.tzinfo or UTC).timestamp() * 1000)
    _, secret = _with_accounts(
        read_settings(config, set_, data_dir=data_dir),
        lambda accounts: accounts.create_token(
            username, name, token=token, expires_at=expires_at, scope=None if scope is None else _scope(scope)
        ),
    )
    console.print(secret, highlight=False, markup=False, soft_wrap=True)


def _scope(text: str) -> TokenScope:
    """The scope of a command's flag; ``@file`` names a file with it."""
    try:
        return parse_scope(json_.loads(Path(text[1:]).read_text() if text.startswith("@") else text))
    except (OSError, ValueError) as error:
        fail(f"--scope: {error}")
        raise


@tokens.command(name="list")
def list_tokens(username: str, *, data_dir: DataDir = None, config: Config = None, set_: Set = None) -> None:
    """List a user's tokens; their texts are not stored."""
    found = _with_accounts(
        read_settings(config, set_, data_dir=data_dir), lambda accounts: accounts.list_tokens(username)
    )
    rows = [
        [
            t.id,
            t.name,
            iso(t.created_at),
            iso_or_none(t.expires_at) or "never",
            iso_or_none(t.last_used_at) or "never",
            "all" if t.scope is None else "scope",
        ]
        for t in found
    ]
    _print_table(["id", "name", "created", "expires", "last used", "may do"], rows)


@tokens.command(name="rotate")
def rotate_token(token: str, *, data_dir: DataDir = None, config: Config = None, set_: Set = None) -> None:
    """Put a new token in the place of one, named by its id or its text, and print it; the old one ends in 24 hours."""
    _, secret = _with_accounts(
        read_settings(config, set_, data_dir=data_dir), lambda accounts: accounts.rotate_token(token)
    )
    console.print(secret, highlight=False, markup=False, soft_wrap=True)


@tokens.command(name="revoke")
def revoke_token(token: str, *, data_dir: DataDir = None, config: Config = None, set_: Set = None) -> None:
    """Revoke a token, named by its id or its text; a running server knows it within 5 seconds."""
    _with_accounts(read_settings(config, set_, data_dir=data_dir), lambda accounts: accounts.revoke_token(token))
    console.print("Revoked.", highlight=False)


def _print_table(columns: list[str], rows: list[list[Any]]) -> None:
    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == "id")  # which is there to be copied
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)
