"""Which methods the stock Python client has, and which of them a test has called."""

from __future__ import annotations

import inspect
from typing import Any

from apify_client import _resource_clients

from support.stock_clients import Settled

Method = tuple[str, str]
"""Class of the sync form, name."""
STORAGES = ("Dataset", "KeyValueStore", "RequestQueue")
"""Beginnings of the classes whose methods the tests below ``contract/storages`` call."""


def methods_of(form: str) -> set[Method]:
    """Every public method of the resource clients of a form, but for those of storages."""
    found = set()
    for name, cls in vars(_resource_clients).items():
        if not inspect.isclass(cls) or name.endswith("Async") is not (form == "async") or name.startswith(STORAGES):
            continue
        names = (attribute for attribute in dir(cls) if not attribute.startswith("_"))
        found |= {(name.removesuffix("Async"), one) for one in names if callable(getattr(cls, one))}
    return found


class Recorded:
    """A client that is used like ``target`` and writes down which methods were called of it and of those it gives."""

    def __init__(self, target: Any, called: set[Method]) -> None:
        self._target = target
        self._called = called

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._called.add((_class_name(self._target), name))
            value = found(*args, **kwargs)
            return Recorded(value, self._called) if _class_name(value).endswith("Client") else value

        return call


def _class_name(client: Any) -> str:
    target = client._target if isinstance(client, Settled) else client
    return type(target).__name__.removesuffix("Async")
