"""The command line: parses, calls the application, prints."""

from actorium.cli.main import main

__all__ = ["main"]
