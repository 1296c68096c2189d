"""What of a folder belongs to the Actor, and whether it changed. docs: actors, section 2.2; development."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actorium.domain.errors import ApiError
from actorium.storage.local_folders import copy_folder, fingerprint


def _write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def _copied(folder: Path, target: Path) -> list[str]:
    copy_folder(folder, target)
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())


def test_what_is_never_pushed_or_ignored_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "actor"
    _write(
        folder, "main.py", ".actor/actor.json", "node_modules/a/x.js", "src/__pycache__/x.pyc", "storage/x", ".git/x"
    )
    _write(folder, "dist/x.js", "notes.txt", "keep.txt", ".actor/notes.txt")
    (folder / ".gitignore").write_text("dist\n*.txt\n")
    (folder / ".actorignore").write_text("!keep.txt\n")
    (tmp_path / "secret").write_text("outside")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "link.py").symlink_to(folder / "main.py")
    expected = [".actor/actor.json", ".actor/notes.txt", ".actorignore", ".gitignore", "keep.txt", "link.py", "main.py"]
    assert _copied(folder, tmp_path / "copy") == expected


def test_the_fingerprint_changes_with_the_files_of_the_actor_only(tmp_path: Path) -> None:
    folder = tmp_path / "actor"
    _write(folder, "main.py", "a.py")
    seen = [fingerprint(folder)]
    assert fingerprint(folder) == seen[0]
    _write(folder, "node_modules/x.js", "storage/y")
    assert fingerprint(folder) == seen[0]
    (folder / "main.py").write_text("other length")
    seen.append(fingerprint(folder))
    os.utime(folder / "main.py", ns=(1, 1))
    seen.append(fingerprint(folder))
    (folder / "a.py").unlink()
    seen.append(fingerprint(folder))
    assert len(set(seen)) == 4


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="is not a folder of this machine"):
        fingerprint(tmp_path / "missing")
