"""Archives nobody vouches for: what would lead out, fill the disk or the memory is refused, the rest is unpacked."""

from __future__ import annotations

import io
import random
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from actorium.builders import BuildFailed, archives, links
from actorium.builders.archives import unpack


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tarred:  # type: ignore[call-overload]
        for member, content in members:
            member.size = len(content)
            tarred.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    return info


def zip_of(path: Path, entries: list[tuple[str, bytes, int]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(info, content)
    return path


def unpacked(archive: Path, tmp_path: Path) -> Path:
    target = tmp_path / "out"
    target.mkdir()
    unpack(archive, target)
    return target


LINK = stat.S_IFLNK | 0o777


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_file_keeps_what_may_be_executed(tmp_path: Path, mode: str) -> None:
    path = tar_of(tmp_path / "a", [(member("./bin/x", mode=0o777), b"x"), (member("./y", mode=0o600), b"y")], mode)
    out = unpacked(path, tmp_path)
    assert stat.S_IMODE((out / "bin/x").stat().st_mode) == 0o755
    assert stat.S_IMODE((out / "y").stat().st_mode) == 0o644


def test_links_become_copies_of_what_they_lead_to(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "a",
        [
            (member("first", tarfile.SYMTYPE, "docs/second"), b""),
            (member("docs/second", tarfile.SYMTYPE, "../real/file"), b""),
            (member("real/file"), b"text"),
            (member("whole", tarfile.SYMTYPE, "real"), b""),
            (member("hard", tarfile.LNKTYPE, "./real/file"), b""),
            (member("nowhere", tarfile.SYMTYPE, "missing"), b""),
        ],
    )
    out = unpacked(path, tmp_path)
    for name in ("first", "docs/second", "real/file", "whole/file", "hard"):
        assert (out / name).read_text() == "text"
    assert not any(found.is_symlink() for found in out.rglob("*"))
    assert not (out / "nowhere").exists()
    (out / "hard").write_text("other")
    assert (out / "real/file").read_text() == "text", "it is a file of its own"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("x", tarfile.SYMTYPE, "/etc/passwd")], "leads out"),
        ([member("a/x", tarfile.SYMTYPE, "../../secret")], "leads out"),
        ([member("x", tarfile.SYMTYPE, "/etc"), member("x/passwd", tarfile.SYMTYPE, "y")], "below a link"),
        ([member("a/x", tarfile.SYMTYPE, ".."), member("b")], "a folder it is in"),
        ([member("x", tarfile.SYMTYPE, "y"), member("y", tarfile.SYMTYPE, "x")], "circle"),
        ([member("x", tarfile.LNKTYPE, "/etc/passwd")], "not allowed"),
        ([member("x", tarfile.LNKTYPE, "../secret")], "not allowed"),
        ([member("x", tarfile.LNKTYPE, "later"), member("later")], "hard link"),
        ([member("x", tarfile.CHRTYPE)], "special file"),
        ([member("x", tarfile.FIFOTYPE)], "special file"),
        ([member("../x")], "not allowed"),
        ([member("/x")], "not allowed"),
        ([member("a\\..\\x")], "not allowed"),
        ([member("x"), member("x/y")], "cannot be unpacked"),
    ],
)
def test_what_leads_out_is_refused(tmp_path: Path, members: list[tarfile.TarInfo], message: str) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(BuildFailed, match=message):
        unpacked(tar_of(tmp_path / "a", [(one, b"") for one in members]), tmp_path)
    assert (tmp_path / "secret").read_text() == "secret"


def test_folders_that_link_to_each_other_are_a_circle(tmp_path: Path) -> None:
    members = [member("a/to-b", tarfile.SYMTYPE, "../b"), member("b/to-a", tarfile.SYMTYPE, "../a")]
    with pytest.raises(BuildFailed, match="circle"):
        unpacked(tar_of(tmp_path / "a.tar", [(one, b"") for one in members]), tmp_path)


def test_links_that_multiply_are_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_FILES", 1000)
    members = [(member("d0/file"), b"x")]
    for level in range(1, 12):
        members += [(member(f"d{level}/{n}", tarfile.SYMTYPE, f"../d{level - 1}"), b"") for n in range(2)]
    with pytest.raises(BuildFailed, match="more than 1000 files"):
        unpacked(tar_of(tmp_path / "a", members), tmp_path)


def test_links_of_a_zip_file(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", [("file", b"text", 0o644), ("link", b"file", LINK)])
    assert (unpacked(path, tmp_path) / "link").read_text() == "text"
    bad = zip_of(tmp_path / "b.zip", [("link", b"/etc/passwd", LINK)])
    with pytest.raises(BuildFailed, match="symbolic link that leads out"):
        unpack(bad, tmp_path / "out")
    pipe = zip_of(tmp_path / "c.zip", [("pipe", b"", stat.S_IFIFO | 0o644)])
    with pytest.raises(BuildFailed, match="special file"):
        unpack(pipe, tmp_path / "out")


def test_of_two_with_one_name_the_last_wins(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "a",
        [(member("x"), b"1"), (member("hard", tarfile.LNKTYPE, "x"), b""), (member("hard"), b"2"), (member("x"), b"3")],
    )
    out = unpacked(path, tmp_path)
    assert ((out / "x").read_text(), (out / "hard").read_text()) == ("3", "2")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 0)
    monkeypatch.setattr(archives, "MAX_RATIO", 100)
    bomb = zip_of(tmp_path / "a.zip", [("zeros", bytes(1_000_000), 0o644)])
    with pytest.raises(BuildFailed, match=r"unpacks to more than .* the most for its size"):
        unpacked(bomb, tmp_path)
    with pytest.raises(BuildFailed, match="unpacks to more than"):
        unpack(tar_of(tmp_path / "a.tar.gz", [(member("zeros"), bytes(1_000_000))]), tmp_path / "out")
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    noise = random.Random(1).randbytes(1001)
    with pytest.raises(BuildFailed, match="more than 1000 bytes"):
        unpack(zip_of(tmp_path / "b.zip", [("x", noise, 0o644)]), tmp_path / "out")


@pytest.mark.parametrize("force_zip64", [False, True])
def test_absurd_counts_are_refused_before_the_directory_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force_zip64: bool
) -> None:
    if force_zip64:
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = zip_of(tmp_path / "a.zip", [(f"f{n}", b"", 0o644) for n in range(4)])
    monkeypatch.setattr(archives, "MAX_FILES", 3)
    monkeypatch.setattr(zipfile.ZipFile, "__init__", lambda *_: pytest.fail("the directory was read"))
    with pytest.raises(BuildFailed, match="more than 3 files"):
        unpacked(path, tmp_path)
    with pytest.raises(BuildFailed, match="more than 3 files"):
        unpack(tar_of(tmp_path / "a.tar", [(member(f"f{n}"), b"") for n in range(4)], "w"), tmp_path / "out")


def test_methods_and_headers_that_fill_the_memory_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as zipped:
        zipped.writestr("x", b"0" * 1000)
    with pytest.raises(BuildFailed, match="not compressed with deflate"):
        unpacked(tmp_path / "a.zip", tmp_path)
    huge = tar_of(tmp_path / "a.tar.gz", [(member("long", tarfile.GNUTYPE_LONGNAME), bytes(3_000_000))])
    with pytest.raises(BuildFailed, match="header of absurd size"):
        unpack(huge, tmp_path / "out")


def test_an_encrypted_or_damaged_archive_is_no_fault_of_the_server(tmp_path: Path) -> None:
    whole = zip_of(tmp_path / "a.zip", [("x", b"text" * 100, 0o644)]).read_bytes()
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[whole.index(b"PK\x01\x02") + 8] |= 1
    damaged = bytearray(whole)
    damaged[40] ^= 0xFF
    cut = tar_of(tmp_path / "a.tar.gz", [(member("x"), random.Random(2).randbytes(50_000))]).read_bytes()[:20_000]
    (tmp_path / "out").mkdir()
    for number, content in enumerate((encrypted, damaged, cut)):
        path = tmp_path / f"bad{number}"
        path.write_bytes(content)
        with pytest.raises(BuildFailed, match="cannot be unpacked"):
            unpack(path, tmp_path / "out")


def test_links_in_a_folder_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 600)
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(BuildFailed, match="more than 1000 bytes"):
        links.settle_links(tmp_path, max_files=10, max_bytes=1000)
