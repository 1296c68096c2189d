"""Writes the generated parts of the documentation; with ``--check`` only says whether they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from actorium.cli.main import app
from actorium.domain.errors import error_table
from actorium.domain.states import diagram
from actorium.settings import settings_markdown

DOCS = Path(__file__).parent
BEGIN, END = "<!-- generated: {} -->", "<!-- end of generated -->"


def parts() -> dict[tuple[str, str], str]:
    """``(page, part)`` -> text."""
    return {
        ("settings.md", "settings"): settings_markdown(),
        ("architecture/runs.md", "diagram"): f"```mermaid\n{diagram()}```\n",
        ("errors.md", "errors"): error_table(),
        ("cli.md", "commands"): app.generate_docs(output_format="markdown", heading_level=2),
    }


def with_part(text: str, part: str, content: str) -> str:
    """``text`` with the marked part replaced."""
    before, begin, rest = text.partition(BEGIN.format(part))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the part {part} is not marked")
    return f"{before}{begin}\n\n{content.strip()}\n\n{end}{after}"


def main() -> int:
    """Write or check every part; returns the exit code."""
    stale = []
    for (page, part), content in parts().items():
        path = DOCS / page
        old = path.read_text()
        new = with_part(old, part, content)
        if new != old:
            stale.append(page)
            if "--check" not in sys.argv:
                path.write_text(new)
    if stale and "--check" in sys.argv:
        print(f"out of date, run 'make docs': {', '.join(stale)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
