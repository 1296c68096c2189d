"""The process that forks keepers: small, so that each costs little, and without threads, so that forking is safe.

A server sends one byte and a socket per request: ``S`` forks a keeper that talks over the socket,
``K`` kills what crashed keepers left behind and answers on it. Gone when the server is.
In a prepared interpreter (``zygote``) the main process of each attempt leaves ``main`` by an exception.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import time

from . import child, keeper, proctree

_SWEEP_SECS = 10.0
_PAUSE_SECS = 0.002
_INT_BYTES = 4


def main(descriptor: int, become: keeper.Become = child.execute) -> None:
    """Serve the socket ``descriptor`` until its other end is closed; ``become`` turns a fork into a main process."""
    os.set_inheritable(descriptor, False)
    server = socket.socket(fileno=descriptor)
    child.default_signals()
    child.give_up_privileges()
    # The tree of a keeper that was killed falls to this process instead of to init.
    child.become_subreaper()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.register(woken, select.POLLIN)
    keepers: set[int] = set()
    gc.collect()
    gc.freeze()
    while True:
        for ready, _ in poll.poll():
            if ready == woken:
                os.read(woken, 512)
                if _reap(keepers):
                    _sweep(keepers)
                continue
            request, channel = _receive(server)
            if channel is None:
                return
            with channel:
                if request == b"K":
                    channel.sendall(b"clean\n" if _sweep(keepers) else b"left\n")
                    continue
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    for own in (woken, wake):
                        os.close(own)
                    server.close()
                    keeper.keep(channel, become)
                keepers.add(pid)


def _receive(server: socket.socket) -> tuple[bytes, socket.socket | None]:
    # socket.recv_fds drops its flags (seen in 3.11); without this one every Actor would inherit the socket.
    try:
        request, ancillary, _, _ = server.recvmsg(1, socket.CMSG_SPACE(_INT_BYTES), socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:  # it was killed
        return b"", None
    for _, _, data in ancillary:
        return request, socket.socket(fileno=int.from_bytes(data[:_INT_BYTES], sys.byteorder))
    return request, None


def _reap(keepers: set[int]) -> bool:
    """Wait for what has ended; returns whether one of the keepers did not end by itself."""
    crashed = False
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return crashed
        if pid == 0:
            return crashed
        if pid in keepers:
            keepers.discard(pid)
            crashed |= status != 0


def _sweep(keepers: set[int]) -> bool:
    """Kill every child that is no keeper and all below it; returns whether nothing is left."""
    deadline = time.monotonic() + _SWEEP_SECS
    while time.monotonic() < deadline:
        _reap(keepers)
        if not [pid for pid in proctree.children(os.getpid(), 0) if pid not in keepers]:
            return True
        proctree.kill_below(os.getpid(), keepers)
        time.sleep(_PAUSE_SECS)
    return False
