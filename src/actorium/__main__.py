"""``python -m actorium``."""

from actorium.cli import main

main()
