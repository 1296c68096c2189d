"""Ports for the web servers of native runs: no two live runs of this machine get the same."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Collection, Iterator

LOOPBACK = "127.0.0.1"


class NoPortError(Exception):
    """Every port of the range is taken."""


class Ports:
    """Hands out the ports of a range in turn, so that one that was just given back is the last to be given again.

    A range outside of what the system takes for outgoing connections: a run binds its port only some time later.
    """

    def __init__(self, first: int, last: int) -> None:
        self._first, self._count = first, last - first + 1
        # Not at the beginning: a second server on this machine shall not offer the same ones at the same time.
        self._reserved: set[int] = set()
        self._next = random.randrange(self._count)  # noqa: S311  no secret

    @contextlib.contextmanager
    def reserved(self, in_use: Collection[int], wanted: int | None = None) -> Iterator[int]:
        """A port that is not ``in_use`` and that nobody listens on: ``wanted``, if that is one.

        Nobody else gets it until the end of the block; then it must be known as in use. Raises
        ``NoPortError`` when there is none left.
        """
        port = self._choose(set(in_use) | self._reserved, wanted)
        self._reserved.add(port)
        try:
            yield port
        finally:
            self._reserved.discard(port)

    def _choose(self, taken: set[int], wanted: int | None) -> int:
        if wanted is not None and wanted not in taken and _is_free(wanted):
            return wanted
        for _ in range(self._count):
            port = self._first + self._next
            self._next = (self._next + 1) % self._count
            if port not in taken and _is_free(port):
                return port
        raise NoPortError("no port is free for the run's web server")


def free_port() -> int:
    """Any port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do it: a port with connections that linger in TIME_WAIT can be listened on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
