"""Which addresses count as private, however they are written."""

from __future__ import annotations

import pytest

from actorium.domain.addresses import is_address, is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "ff02::1",
    ],
)  # fmt: skip
def test_private(address: str) -> None:
    assert is_address(address)
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public(address: str) -> None:
    assert is_address(address)
    assert is_public(address)


@pytest.mark.parametrize("host", ["localhost", "example.com", "127.1", "0x7f000001", "2130706433", ""])
def test_names(host: str) -> None:
    assert not is_address(host)
