"""Flags that several commands share, and how they become settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from actorium.settings import SettingError, Settings, load_settings

DataDir = Annotated[Path | None, Parameter(help="Where the server keeps everything.")]
Config = Annotated[Path | None, Parameter(help="Configuration file; default: actorium.toml in the data directory.")]
Set = Annotated[
    list[str] | None,
    Parameter(name="--set", help="Any setting as NAME=VALUE; may be repeated. See 'actorium settings'.", negative=()),
]

console = Console()
errors = Console(stderr=True)


def fail(message: str) -> None:
    """Print what is wrong and end with exit code 1."""
    errors.print(f"[bold red]Error:[/] {message}", highlight=False)
    sys.exit(1)


def read_settings(config: Path | None = None, sets: list[str] | None = None, **flags: object) -> Settings:
    """The settings with flags over environment over file over defaults; ends the program on a wrong one."""
    values = dict(flags)
    for item in sets or []:
        name, equals, value = item.partition("=")
        if not equals or name not in Settings.__struct_fields__:
            fail(f"--set {item}: expected NAME=VALUE with a name listed by 'actorium settings'.")
        values[name] = value
    try:
        return load_settings(values, config=config)
    except SettingError as error:
        fail(str(error))
        raise
