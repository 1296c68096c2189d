"""``actorium dev``: runs of an Actor are of the files in a folder, as they are when a run starts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import pyjson5
from cyclopts import Parameter

from actorium.app.opening import open_dev_folders
from actorium.cli.options import Config, DataDir, Set, console, fail, read_settings
from actorium.domain.errors import ApiError
from actorium.domain.models import Debug


def dev(
    folder: Annotated[Path, Parameter(help="The Actor's folder on the server's machine.")] = Path(),
    *,
    user: Annotated[str, Parameter(help="Whose Actor it is.")] = "admin",
    debug: Annotated[
        int | None, Parameter(help="Start its runs under a debugger that listens at this port; 0 takes a free one.")
    ] = None,
    wait: Annotated[bool, Parameter(help="Runs wait until the debugger is attached.", negative=())] = False,
    end: Annotated[bool, Parameter(help="Let its runs be of its builds again.", negative=())] = False,
    data_dir: DataDir = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Let runs of an Actor use the files in a folder as they are, without a push and a build.

    The Actor is the one that .actor/actor.json names; it is made if there is none. Runs that ask for a build by number
    or tag still get that one.
    """
    settings = read_settings(config, set_, data_dir=data_dir)
    path = folder.absolute()
    if wait and debug is None:
        fail("--wait needs --debug.")

    async def work() -> None:
        async with open_dev_folders(settings) as folders:
            if end:
                names = await folders.forget(path)
                console.print(f"Runs use builds again: {', '.join(names)}" if names else f"{path} was not registered.")
                return
            actor = await folders.register(user, path, _name(path), None if debug is None else Debug(debug, waits=wait))
            console.print(f"Runs of {user}/{actor.name} use the files in {path}.", highlight=False, soft_wrap=True)
            console.print(f"  apify call {user}/{actor.name}", highlight=False, soft_wrap=True)

    try:
        asyncio.run(work())
    except ApiError as error:
        fail(error.message)


def _name(folder: Path) -> str | None:
    try:
        definition: Any = pyjson5.decode((folder / ".actor" / "actor.json").read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (pyjson5.Json5Exception, UnicodeDecodeError, OSError) as error:
        fail(f"{folder / '.actor' / 'actor.json'} cannot be read: {error}")
        raise
    name = definition.get("name") if isinstance(definition, dict) else None
    return name if isinstance(name, str) else None
