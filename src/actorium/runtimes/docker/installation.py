"""Which containers of an engine are this server's."""

from __future__ import annotations

import contextlib
from pathlib import Path

from actorium.kit import new_id


class Installation:
    """A name for one server's containers, kept in the directory ``root`` from the first start on.

    ``read`` and ``make`` block: call them in a thread.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / "installation"
        self.id: str | None = None

    def read(self) -> str | None:
        """The name, ``None`` as long as nothing was started here."""
        with contextlib.suppress(FileNotFoundError):
            self.id = self._path.read_text()
        return self.id

    def make(self) -> str:
        """The name; made if there is none yet."""
        if self.id is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self._path.with_suffix(f".{new_id()}")
            temporary.write_text(new_id())
            with contextlib.suppress(FileExistsError):
                self._path.hardlink_to(temporary)
            temporary.unlink()
            self.id = self._path.read_text()
        return self.id
