from __future__ import annotations

import gzip
import itertools
import os
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from actorium.domain.content_encodings import Decoder, DecodingError, accepts, decoder_of
from actorium.domain.errors import ApiError, ErrorType


def bare_deflate(value: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(value) + stream.flush()


ENCODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZip", gzip.compress),
    ("br", lambda value: bytes(brotli.compress(value, quality=3))),
    ("deflate", zlib.compress),
    ("deflate", bare_deflate),
    ("zstd", zstandard.compress),
]
MIXED = os.urandom(100_000) + bytes(900_000) + b"text " * 50_000


def decoder(name: str) -> Decoder:
    found = decoder_of(name)
    assert found is not None
    return found


def decode(name: str, data: bytes, step: int) -> bytes:
    stream = decoder(name)
    value = b"".join(piece for start in range(0, len(data), step) for piece in stream.feed(data[start : start + step]))
    stream.end()
    return value


@pytest.mark.parametrize(("name", "encode"), ENCODINGS)
@pytest.mark.parametrize("step", [1, 977, 10_000_000])
def test_every_encoding_in_pieces_of_any_size(name: str, encode: Callable[[bytes], bytes], step: int) -> None:
    value = MIXED[:3_000] if step == 1 else MIXED
    assert decode(name, encode(value), step) == value
    assert decode(name, encode(b""), step) == b""
    assert decode(name, b"", step) == b""


@pytest.mark.parametrize(("name", "encode"), [("gzip", gzip.compress), ("zstd", zstandard.compress)])
@pytest.mark.parametrize("step", [1, 977, 10_000_000])
def test_members_follow_each_other(name: str, encode: Callable[[bytes], bytes], step: int) -> None:
    parts = [MIXED[95_000:103_000], b"", b"end"]
    assert decode(name, b"".join(map(encode, parts)), step) == b"".join(parts)


def test_padding_after_gzip_is_passed_over() -> None:
    assert decode("gzip", gzip.compress(b"text") + bytes(600), 7) == b"text"


@pytest.mark.parametrize(("name", "encode"), ENCODINGS)
def test_what_is_broken_or_cut_off(name: str, encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(DecodingError, match="it ends too early"):
        decode(name, encode(MIXED)[:-9], 50_000)
    with pytest.raises(DecodingError, match="not valid"):
        decode(name, b"\xff this is nothing of the kind" * 10, 50_000)


@pytest.mark.parametrize("name", ["gzip", "br", "deflate", "zstd"])
def test_little_data_never_becomes_much_at_once(name: str) -> None:
    encode = {"gzip": gzip.compress, "br": brotli.compress, "deflate": zlib.compress, "zstd": zstandard.compress}[name]
    pieces = decoder(name).feed(encode(bytes(100_000_000)))
    assert max(len(piece) for piece in itertools.islice(pieces, 5)) < 9_000_000


def test_encodings_that_are_none() -> None:
    assert decoder_of("") is decoder_of(" Identity ") is None
    with pytest.raises(ApiError) as refused:
        decoder_of("gzip, br")
    assert refused.value.type is ErrorType.UNSUPPORTED_CONTENT_ENCODING


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("", set[str]()),
        ("gzip", {"gzip"}),
        ("GZIP, Br", {"gzip", "br"}),
        ("x-gzip", {"gzip"}),
        ("*", {"gzip", "br"}),
        ("br;q=0, *", {"gzip"}),
        ("gzip; q=0.001, *;q=0", {"gzip"}),
        ("gzip;q=0, br;q=0.000", set[str]()),
        ("gzip;q=1.0,br;q=0.5", {"gzip", "br"}),
        ("gzip;q=nonsense", set[str]()),
        ("identity", set[str]()),
        (", ,gzip,", {"gzip"}),
    ],
)
def test_what_a_client_takes(header: str, taken: set[str]) -> None:
    assert {name for name in ("gzip", "br") if accepts(header, name)} == taken
