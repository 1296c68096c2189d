"""Images on disk: made out of a finished stage, found again by what they were made from, removed with their trees."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from actorium.builders.native.trees import Trees, clone

_STATE = "image.json"


class Images:
    """Images below ``root``, a folder each, beside ``keys``: which image was made from which sources. All block."""

    def __init__(self, root: Path, keys: Path, trees: Trees) -> None:
        self.root = root
        self._keys = keys
        self._trees = trees
        # What is used again must not lose its trees to a removal at the same time.
        self._lock = threading.Lock()

    def open(self) -> None:
        """Make the folders."""
        for folder in (self.root, self._keys):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def keep(self, root: Path, build_id: str, state: dict[str, Any], key: str) -> None:
        """Make the image of a build out of its last stage; ``key`` finds it again."""
        image = self.root / build_id
        if image.exists():
            shutil.rmtree(image)
        image.mkdir(parents=True)
        for name in ("node_modules", ".venv"):
            if (root / name).is_symlink():
                (root / name).unlink()
        root.rename(image / "app")
        self._write(build_id, state, key)

    def _write(self, build_id: str, state: dict[str, Any], key: str) -> None:
        (self.root / build_id / _STATE).write_bytes(msgspec.json.encode(state))
        temporary = self._keys / f".{build_id}"
        temporary.write_text(build_id)
        temporary.rename(self._keys / key)

    def again(self, key: str, build_id: str) -> tuple[str, dict[str, Any]] | None:
        """A second image of what was built before: the earlier build and the new state, ``None`` if it is gone."""
        with self._lock:
            return self._again(key, build_id)

    def _again(self, key: str, build_id: str) -> tuple[str, dict[str, Any]] | None:
        try:
            earlier = (self._keys / key).read_text()
            state = msgspec.json.decode((self.root / earlier / _STATE).read_bytes(), type=dict[str, Any])
            if not all(self._trees.is_complete(tree) for tree in state["trees"]):
                return None
            image = self.root / build_id
            # No run ever writes into an image: each gets its own copy of the files.
            clone(self.root / earlier / "app", image / "app")
        except (OSError, shutil.Error, msgspec.DecodeError):
            shutil.rmtree(self.root / build_id, ignore_errors=True)
            return None
        state |= {"app_dir": str(image / "app"), "image_dir": str(image)}
        self._write(build_id, state, key)
        return earlier, state

    def size_bytes(self, state: dict[str, Any], own_bytes: int) -> int:
        """An image's own files and the trees it is linked to."""
        return own_bytes + sum(self._trees.size_bytes(key) for key in state["trees"])

    def remove(self, state: dict[str, Any]) -> None:
        """Delete an image, and those of its trees that no other one refers to."""
        with self._lock:
            self._remove(state)

    def _remove(self, state: dict[str, Any]) -> None:
        shutil.rmtree(state["image_dir"], ignore_errors=True)
        referenced: set[str] = set()
        for path in self.root.glob(f"*/{_STATE}"):
            with contextlib.suppress(OSError):
                referenced |= set(msgspec.json.decode(path.read_bytes())["trees"])
        self._trees.remove_unused(state["trees"], referenced)
        self._forget(Path(state["image_dir"]).name)

    def _forget(self, build_id: str) -> None:
        for path in self._known():
            with contextlib.suppress(OSError):
                if path.read_text() == build_id:
                    path.unlink()

    def _known(self) -> Iterable[Path]:
        return list(self._keys.iterdir()) if self._keys.is_dir() else []
