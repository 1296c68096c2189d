from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


_secrets = st.text(min_size=1, max_size=40)
_ids = st.text("abcXYZ019", min_size=17, max_size=17)
_times = st.integers(0, 10**14)


@given(_secrets, _ids, _times, _times, st.sampled_from(["", "=", "=="]))
def test_own_signatures_open_until_they_expire(
    secret: str, storage_id: str, expires_at: int, now: int, padding: str
) -> None:
    signature = content_signature(secret, storage_id, expires_at) + padding
    assert is_content_signature(signature, secret, storage_id, now) == (expires_at == 0 or now <= expires_at)
    assert not is_content_signature(signature, secret + "x", storage_id, now)
    assert not is_content_signature(signature, secret, storage_id[:-1] + "_", now)


@given(_secrets, _ids, st.sampled_from([0, JANUARY_2026]), st.integers(0, 200), st.characters(codec="utf-8"))
def test_a_signature_with_any_character_changed_opens_nothing(
    secret: str, storage_id: str, expires_at: int, place: int, other: str
) -> None:
    for signature, is_signature in (
        (content_signature(secret, storage_id, expires_at), lambda s: is_content_signature(s, secret, storage_id, 0)),
        (record_signature(secret, storage_id), lambda s: is_record_signature(s, secret, storage_id)),
    ):
        assert is_signature(signature)
        place %= len(signature)
        for changed in (
            signature[:place] + other + signature[place + 1 :],
            signature[:place] + other + signature[place:],
            signature[:place] + signature[place + 1 :],
        ):
            assert changed.rstrip("=") == signature or not is_signature(changed)


@given(_secrets, _ids, st.integers(0, 63))
def test_other_spellings_of_a_signature_open_nothing(secret: str, storage_id: str, number: int) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    signature = content_signature(secret, storage_id)
    spelled = signature[:-1] + alphabet[number]
    assert is_content_signature(spelled, secret, storage_id, 0) == (spelled == signature)
    inner = hmac_signature(secret, f"0.00.{storage_id}")
    zeros = base64.urlsafe_b64encode(f"0.00.{inner}".encode()).decode()
    assert not is_content_signature(zeros, secret, storage_id, 0)


@given(_secrets, st.text(), st.text())
def test_a_record_signature_opens_that_key_only(secret: str, key: str, other: str) -> None:
    signature = record_signature(secret, key)
    assert is_record_signature(signature, secret, key)
    assert is_record_signature(signature, secret, other) == (key == other)
