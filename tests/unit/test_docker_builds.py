"""What is read out of Dockerfiles and out of BuildKit's progress before and while the engine builds."""

from __future__ import annotations

import base64

import pytest

from actorium.builders.docker.buildkit import Progress, buildkit_feature, explained
from actorium.builders.docker.context import base_images, prefixed
from actorium.builders.docker.registries import registry_of


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("FROM a\nRUN make \\\n  && make install\nCOPY --from=b --chown=me x y\n", None),
        ("# syntax=docker/dockerfile:1\nFROM a\nRUN python -c 'print(1 << 2)'\n", None),
        ("FROM a\nRUN --mount=type=cache,target=/x \\\n  make\n", "line 2: RUN --mount"),
        ("FROM a\nENV x=1\nRUN <<EOF\nmake\nEOF\n", "line 3: RUN <<"),
        ("FROM a\nCOPY <<-'END' /file\ntext\nEND\n", "line 2: COPY <<"),
        ("FROM a\nCOPY --chown=me --link x y\n", "line 2: COPY --link"),
        ("FROM a\nADD --keep-git-dir=true x y\n", "line 2: ADD --keep-git-dir"),
    ],
)
def test_what_needs_buildkit(text: str, feature: str | None) -> None:
    assert buildkit_feature(text) == feature


def test_a_parser_that_is_too_old_is_explained() -> None:
    # What Docker 20.10 says.
    reason = "dockerfile parse error line 3: unknown instruction: ECHO"
    text = "FROM a\nRUN <<EOF\necho a\nEOF\n"
    assert "too old for line 2: RUN <<" in explained(reason, text)
    assert '"# syntax=docker/dockerfile:1"' in explained(reason, text)
    assert explained(reason, f"# syntax=docker/dockerfile:1\n{text}") == reason
    assert explained(reason, "FROM a\nECHO a\n") == reason
    assert explained("exit code: 3", text) == "exit code: 3"


def test_base_images() -> None:
    text = (
        "ARG TAG=1\nARG WHERE=hub\nFROM one/image:$TAG AS first\nFROM scratch AS Second\nFROM first\n"
        "COPY --from=second a b\nCOPY --from=0 a b\nCOPY --from=${X}other/tools:2 a b\nFROM $WHERE/image\n"
    )
    assert base_images(text, {"WHERE": "mirror.example"}) == [
        "one/image:1",
        "${X}other/tools:2",
        "mirror.example/image",
    ]


def test_a_mirror_serves_the_parser_too() -> None:
    text = "# syntax=docker/dockerfile:1\nFROM one AS two\nFROM two\nCOPY --from=three a b\n"
    assert prefixed(text, "mirror.example/hub/") == (
        "# syntax=mirror.example/hub/docker/dockerfile:1\nFROM mirror.example/hub/one AS two\nFROM two\n"
        "COPY --from=mirror.example/hub/three a b\n"
    )


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("apify/actor-node:20", "docker.io"),
        ("docker.io/apify/actor-node", "docker.io"),
        ("index.docker.io/library/busybox", "docker.io"),
        ("registry.example.com/a/b:1", "registry.example.com"),
        ("localhost/a", "localhost"),
        ("127.0.0.1:5000/a@sha256:00", "127.0.0.1:5000"),
        ("busybox", "docker.io"),
    ],
)
def test_registries_of_images(image: str, registry: str) -> None:
    assert registry_of(image) == registry


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def sent(*fields: bytes) -> str:
    return base64.b64encode(b"".join(fields)).decode()


def test_progress_is_told_once_in_whole_lines() -> None:
    """Message and field numbers as in BuildKit's control.proto."""
    progress = Progress()
    one = field(1, b"digest-1") + field(3, b"[1/2] FROM a")
    two = field(1, b"digest-2") + field(2, b"digest-1") + field(3, b"[2/2] RUN make")
    began, ended = field(5, field(1, 9)), field(6, field(1, 9))

    def log(text: bytes) -> bytes:
        return field(3, field(1, b"digest-2") + field(3, 1) + field(4, text))

    assert progress.read(sent(field(1, one), field(1, two))) == b""
    assert progress.read(sent(field(1, one + field(4, 1) + began))) == b"#1 [1/2] FROM a\n#1 CACHED\n"
    assert progress.read(sent(field(1, two + began), log(b"first\nsec"))) == b"#2 [2/2] RUN make\n#2 first\n"
    assert progress.read(sent(log(b"ond\nlast"), field(2, b"\x0a\x01x"))) == b"#2 second\n"
    assert progress.read(sent(field(1, two + began + ended + field(7, b"exit 3")))) == b"#2 last\n#2 ERROR: exit 3\n"
    assert progress.read(sent(field(1, two + began + ended + field(7, b"exit 3")))) == b""


@pytest.mark.parametrize("message", ["no base64!", "Cg==", "//8=", base64.b64encode(b"\x0a\x05ab").decode()])
def test_what_is_no_progress_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Progress().read(message)
