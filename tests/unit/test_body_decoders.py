"""Decoders of content encodings: whole in any steps, in pieces of bounded size, and clear about what is broken."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from actorium.api.body import DECODING_ERRORS, decoder_of

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "br": lambda value: bytes(brotli.compress(value, quality=1)),
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
VALUES = [b"", b"x", b"x" * 262_144, b"x" * 3_000_000, random.Random(5).randbytes(700_000)]


def decode(encoding: str, encoded: bytes, step: int) -> tuple[list[bytes], bool]:
    decoder = decoder_of(encoding)
    assert decoder is not None
    pieces: list[bytes] = []
    for start in range(0, len(encoded), step):
        pieces += decoder.feed(encoded[start : start + step])
    return pieces, decoder.end()


@pytest.mark.parametrize("encoding", ENCODERS)
def test_everything_comes_out_in_any_steps(encoding: str) -> None:
    for value in VALUES:
        encoded = ENCODERS[encoding](value)
        for step in (777, 65_536, len(encoded)):
            pieces, is_whole = decode(encoding, encoded, step)
            assert (b"".join(pieces) == value, is_whole) == (True, True), (len(value), step)
            cut, is_whole = decode(encoding, encoded[:-1], step)
            assert not is_whole
            assert value.startswith(b"".join(cut))


@pytest.mark.parametrize("encoding", ENCODERS)
def test_what_is_not_in_the_encoding_is_noticed(encoding: str) -> None:
    with pytest.raises(DECODING_ERRORS):
        decode(encoding, b"\xff" * 5000, 100)


@pytest.mark.parametrize("encoding", ENCODERS)
def test_a_bomb_comes_out_in_pieces(encoding: str) -> None:
    bomb = ENCODERS[encoding](b"\0" * (48 * 1024 * 1024))
    decoder = decoder_of(encoding)
    assert decoder is not None
    assert max(map(len, decoder.feed(bomb))) <= 17 * 1024 * 1024
