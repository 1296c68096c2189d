"""Commands: export, import, import-from-apify, store import. What brings the client is imported when one is called."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from actorium.cli.options import Config, DataDir, Set, console, fail, read_settings
from actorium.domain.errors import ApiError

if TYPE_CHECKING:
    from actorium.cli.exchange.api import Api

Folder = Annotated[Path, Parameter(help="The folder of the export.")]
Url = Annotated[
    str | None, Parameter(help="The API's URL; default: with a token APIFY_CLIENT_BASE_URL, else the settings' server.")
]
Token = Annotated[
    str | None,
    Parameter(help="Token of the user; default: APIFY_TOKEN, else one that is made in the data directory's database."),
]
User = Annotated[
    str | None, Parameter(help="User of the settings' server, where no token is given; default: the first.")
]
DryRun = Annotated[bool, Parameter(help="Say what would be done and change nothing.", negative=())]
WebhookHeaders = Annotated[
    bool, Parameter(help="Take header templates of webhooks along, which may hold tokens.", negative=())
]
NoBuilds = Annotated[
    bool,
    Parameter(name="--no-builds", help="Do not build Actors; tasks need a build of theirs.", negative=()),
]
APIFY_URL = "https://api.apify.com"


def register(app: cyclopts.App) -> None:
    """Add the commands of this module."""
    app.command(export)
    app.command(import_, name="import")
    app.command(import_from_apify, name="import-from-apify")
    store = cyclopts.App(name="store", help="Put public Actors into the server's store.")
    store.command(store_import, name="import")
    app.command(store)


def export(
    folder: Folder,
    *,
    dry_run: DryRun = False,
    webhook_headers: WebhookHeaders = False,
    url: Url = None,
    token: Token = None,
    user: User = None,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Write a user's Actors, tasks, schedules, webhooks and named storages into a folder, as plain files.

    The server must be running. Secret values are left out. An export that was cut off goes on where it was.
    """
    with _reported(), _signed_in(data_dir, config, set_, url, token, user) as source:
        _export(source, folder, dry_run=dry_run, webhook_headers=webhook_headers)


def import_(
    folder: Folder,
    *,
    dry_run: DryRun = False,
    no_builds: NoBuilds = False,
    disabled: Annotated[
        bool, Parameter(help="Let schedules and webhooks that are new here come disabled.", negative=())
    ] = False,
    url: Url = None,
    token: Token = None,
    user: User = None,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Put what 'actorium export' has written into a running server. The same again changes nothing."""
    with _reported(), _signed_in(data_dir, config, set_, url, token, user) as target:
        _import(target, folder, dry_run=dry_run, build=not no_builds, enable=not disabled)


def import_from_apify(
    *,
    token: Annotated[str, Parameter(help="Token at the API to import from.", env_var="APIFY_SOURCE_TOKEN")],
    from_url: Annotated[str, Parameter(help="The API to import from.")] = APIFY_URL,
    folder: Annotated[
        Path | None, Parameter(help="Folder to keep what was read; with it an import that was cut off goes on.")
    ] = None,
    dry_run: DryRun = False,
    no_builds: NoBuilds = False,
    enabled: Annotated[
        bool,
        Parameter(help="Let new schedules and webhooks come enabled, though they also go on there.", negative=()),
    ] = False,
    webhook_headers: WebhookHeaders = False,
    to_url: Annotated[str | None, Parameter(help="The API to import into; default: the settings' server.")] = None,
    to_token: Annotated[str | None, Parameter(help="Token there; default: one that is made for 'user'.")] = None,
    user: User = None,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Copy a user's Actors, tasks, schedules, webhooks and named storages from any Apify API into a running server."""
    from actorium.cli.exchange.api import Api

    with tempfile.TemporaryDirectory(prefix="actorium-import-") as temporary, _reported():
        root = folder or Path(temporary) / "export"
        _export(Api(from_url, token), root, dry_run=False, webhook_headers=webhook_headers)
        with _signed_in(data_dir, config, set_, to_url, to_token, user, is_local=True) as target:
            _import(target, root, dry_run=dry_run, build=not no_builds, enable=enabled)


def store_import(
    origin: Annotated[
        str, Parameter(help="A folder, a Git URL, or a sample that comes along: python-counter, javascript-counter.")
    ],
    *,
    name: Annotated[str | None, Parameter(help="Name of the Actor; default: the folder's or repository's.")] = None,
    category: Annotated[str, Parameter(help="Category in the store, where it has none.")] = "DEVELOPER_TOOLS",
    url: Url = None,
    token: Token = None,
    user: User = None,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Make a public Actor of a running server's store, build it, and again: bring it up to date."""
    from actorium.cli.exchange.store import import_into_store

    with _reported(), _signed_in(data_dir, config, set_, url, token, user) as target:
        import_into_store(target, origin, name, category, _say)


def _export(source: Api, folder: Path, *, dry_run: bool, webhook_headers: bool) -> None:
    from actorium.cli.exchange.exporting import Export

    work = Export(source, folder, _say, with_headers=webhook_headers)
    if dry_run:
        for part, count in work.count().items():
            _say(f"Would export {count} {part}")
        return
    work.run()
    _say(f"Exported what {source.username} has at {source.url} to {folder}")


def _import(target: Api, folder: Path, *, dry_run: bool, build: bool, enable: bool) -> None:
    from actorium.cli.exchange.importing import Import

    work = Import(target, folder, _say, dry_run=dry_run, build=build, enable=enable)
    work.run()
    if work.problems:
        fail(f"{work.problems} of the above could not be imported.")
    if not dry_run:
        _say(f"Imported into {target.url} for {target.username}.")


def _say(text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def _signed_in(
    data_dir: Path | None,
    config: Path | None,
    sets: list[str] | None,
    url: str | None,
    token: str | None,
    user: str | None,
    *,
    is_local: bool = False,
) -> Iterator[Api]:
    from actorium.cli.exchange.signing_in import signed_in

    settings = read_settings(config, sets, data_dir=data_dir)
    with signed_in(settings, url, token, user, use_environment=not is_local) as api:
        yield api


@contextmanager
def _reported() -> Iterator[None]:
    """Turns what can go wrong into a message for the user."""
    from apify_client.errors import ApifyApiError
    from impit import HTTPError

    from actorium.cli.exchange.folder import FolderError

    try:
        yield
    except (ApiError, ApifyApiError, FolderError, OSError, ValueError) as error:
        fail(str(error))
    except HTTPError as error:
        fail(f"The server cannot be reached: {error or type(error).__name__}. Is it running?")
