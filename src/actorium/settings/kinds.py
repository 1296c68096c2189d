"""What a setting is, and the kinds of values settings have: each turns text into a value or raises ``ValueError``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import msgspec

ENV_PREFIX = "ACTORIUM_"


class SettingError(ValueError):
    """A setting has a value it cannot have; the message names setting, value and what is allowed."""


class Setting(msgspec.Struct, frozen=True):
    """One row of the table. ``default`` is text as a user would write it; ``secret`` values are never shown."""

    name: str
    parse: Callable[[str], Any]
    allowed: str
    default: str
    help: str
    secret: bool = False

    @property
    def env_var(self) -> str:
        """The environment variable that sets it."""
        return ENV_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command-line flag that sets it."""
        return "--" + self.name.replace("_", "-")

    def read(self, text: str, source: str) -> Any:
        """The value of ``text``, which ``source`` gave."""
        try:
            return self.parse(text)
        except ValueError as error:
            shown = "***" if self.secret else repr(text)
            raise SettingError(f"{self.name} ({source}) has the value {shown}: it must be {self.allowed}.") from error


def free_text(text: str) -> str:
    """Any text."""
    return text


def directory(text: str) -> Path:
    """A path, made absolute."""
    if not text:
        raise ValueError
    return Path(text).expanduser().absolute()


def whole_number(minimum: int, maximum: int = 2**53) -> Callable[[str], int]:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        value = int(text)
        if not minimum <= value <= maximum:
            raise ValueError
        return value

    return parse


def seconds(text: str) -> float:
    """A number of seconds."""
    value = float(text)
    if not 0 <= value < 10**9:
        raise ValueError
    return value


PRICED_SERVICES = (
    "ACTOR_COMPUTE_UNITS",
    "DATASET_READS",
    "DATASET_WRITES",
    "KEY_VALUE_STORE_READS",
    "KEY_VALUE_STORE_WRITES",
    "KEY_VALUE_STORE_LISTS",
    "REQUEST_QUEUE_READS",
    "REQUEST_QUEUE_WRITES",
    "DATA_TRANSFER_INTERNAL_GBYTES",
    "DATA_TRANSFER_EXTERNAL_GBYTES",
    "PROXY_RESIDENTIAL_TRANSFER_GBYTES",
    "PROXY_SERPS",
)


def prices_usd(text: str) -> dict[str, float]:
    """Prices in US dollars by the names of the services."""
    found: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, price = item.partition("=")
        name = name.strip().upper()
        if name not in PRICED_SERVICES or name in found:
            raise ValueError
        found[name] = usd(price)
    return found


def prefixes(text: str) -> dict[str, str]:
    """Beginnings of URLs, and what takes their places."""
    found: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        prefix, equals, replacement = item.partition("=")
        if not prefix or not equals or not replacement:
            raise ValueError
        found[prefix] = replacement
    return found


def registry_logins(text: str) -> dict[str, str]:
    """``user:password`` by registry."""
    found: dict[str, str] = {}
    for item in text.split():
        registry, _, login = item.partition("=")
        user, _, password = login.partition(":")
        if not registry or "/" in registry or not user or not password or registry in found:
            raise ValueError
        found[registry] = login
    return found


def usd(text: str) -> float:
    """An amount of US dollars."""
    value = float(text)
    if not 0 <= value < 10**9:
        raise ValueError
    return value


def one_of(*allowed: str) -> Callable[[str], str]:
    """One of some words, in any case."""

    def parse(text: str) -> str:
        for value in allowed:
            if text.lower() == value.lower():
                return value
        raise ValueError

    return parse


def switch(text: str) -> bool:
    """On or off."""
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise ValueError


def url(*schemes: str) -> Callable[[str], str]:
    """Nothing, or a URL with one of the schemes."""

    def parse(text: str) -> str:
        if text and not text.startswith(schemes):
            raise ValueError
        return text.rstrip("/")

    return parse


def domain(text: str) -> str:
    """A domain name."""
    if text and not re.fullmatch(r"[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*", text):
        raise ValueError
    return text.lower()


def names(text: str) -> frozenset[str]:
    """Names between commas."""
    return frozenset(filter(None, (part.strip() for part in text.split(","))))


def header(text: str) -> str:
    """The name of a header, or nothing."""
    if text and not re.fullmatch(r"[A-Za-z0-9-]+", text):
        raise ValueError
    return text


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Addresses, or networks such as 10.0.0.0/8, between commas."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def port_range(text: str) -> tuple[int, int]:
    """The first and last of some ports."""
    first, last = (whole_number(1, 65_535)(part) for part in text.split("-"))
    if first > last:
        raise ValueError
    return first, last


def _machine_memory_mbytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def machine_memory(text: str) -> int:
    """A number of megabytes; empty: what the machine has."""
    return _machine_memory_mbytes() if not text else whole_number(128)(text)


def memory_or_none(text: str) -> int:
    """A number of megabytes; 0 or empty: none."""
    return 0 if text == "0" else whole_number(128)(text)


def run_memory(text: str) -> int:
    """The memory of a run: a power of two."""
    value = whole_number(128, 32_768)(text)
    if value & (value - 1):
        raise ValueError
    return value
