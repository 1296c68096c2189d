from __future__ import annotations

import pytest

from actorium.domain.signing import (
    content_signature,
    hmac_signature,
    is_content_signature,
    is_record_signature,
    record_signature,
)

SECRET = "kvsSecretKey0123456789abcd"
STORE = "WkzbQMuFYuamGv3YF"
PERMANENT = "MC4wLjFvZWxmZFpPcDNobUVOZ0dvdkky"
UNTIL_2026 = "MC4xNzY3MjI1NjAwMDAwLjFOZ2R1aTQ4RkxLY1BmUU0xYlFVQQ"
JANUARY_2026 = 1_767_225_600_000


def test_published_vectors() -> None:
    assert hmac_signature("hmac-secret-key", "hmac-message-to-be-authenticated") == "pcVagAsudj8dFqdlg7mG"
    assert record_signature(SECRET, "INPUT") == "ATOCrQvOpE82umjzeCJj"
    assert record_signature(SECRET, "a'b(1).txt") == "1SEA1Kr3zRbpMtUnjFbCj"
    assert content_signature(SECRET, STORE) == PERMANENT
    assert content_signature(SECRET, STORE, JANUARY_2026) == UNTIL_2026


@pytest.mark.parametrize("padding", ["", "=", "=="])
def test_what_is_signed_opens(padding: str) -> None:
    assert is_content_signature(PERMANENT + padding, SECRET, STORE, now=10**13)
    assert is_content_signature(UNTIL_2026 + padding, SECRET, STORE, now=JANUARY_2026)
    assert not is_content_signature(UNTIL_2026 + padding, SECRET, STORE, now=JANUARY_2026 + 1)


@pytest.mark.parametrize(
    "signature",
    [None, "", "é", "a", "!!!!", "MC4w", PERMANENT[:-1], PERMANENT + "A", "MS4wLjFvZWxmZFpPcDNobUVOZ0dvdkky"],
)
def test_what_is_not_signed_does_not_open(signature: str | None) -> None:
    assert not is_content_signature(signature, SECRET, STORE, now=0)
    assert not is_record_signature(signature, SECRET, "INPUT")


def test_signatures_open_one_thing_only() -> None:
    assert not is_content_signature(PERMANENT, SECRET, "AkzbQMuFYuamGv3YF", now=0)
    assert not is_content_signature(PERMANENT, None, STORE, now=0)
    assert not is_record_signature(record_signature(SECRET, "INPUT"), SECRET, "OUTPUT")
    assert not is_record_signature(content_signature(SECRET, STORE), SECRET, STORE)
