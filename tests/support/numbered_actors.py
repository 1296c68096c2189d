"""Native Actors that number all they write, and note outside the platform what they wrote and what was acknowledged."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = """
import http.client, json, os, signal, sys, time
attempt, kept = os.environ["ACTORIUM_ATTEMPT"], {}
notes = os.open(@NOTES@ + "/" + attempt, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
host = os.environ["APIFY_API_BASE_URL"].split("//")[1].strip("/")

def note(what, n):
    os.write(notes, f"{what} {n}\\n".encode())

def lines(first, after, writer="main"):
    os.write(1, b"".join(b"%s %s %07d;\\n" % (attempt.encode(), writer.encode(), n) for n in range(first, after)))
    note(writer, after - 1)

def send(what, method, path, n, **more):
    note("asked-" + what, n)
    try:
        connection = http.client.HTTPConnection(host, timeout=5)
        headers = {"Authorization": "Bearer " + os.environ["APIFY_TOKEN"], "Content-Type": "application/json"}
        headers["idempotency-key"] = f"{attempt}-{what}-{n}"
        connection.request(method, "/v2/" + path, json.dumps({"attempt": attempt, "n": n, **more}), headers)
        if connection.getresponse().status == 201:
            note(what, n)
            return True
    except (OSError, http.client.HTTPException):
        pass
    return False

def charge(n):
    # What was not answered is asked for once more: the same key charges once.
    path = "actor-runs/" + os.environ["ACTOR_RUN_ID"] + "/charge"
    send("charge", "POST", path, n, eventName="page") or send("charge", "POST", path, n, eventName="page")

def push(n):
    send("item", "POST", "datasets/" + os.environ["ACTOR_DEFAULT_DATASET_ID"] + "/items", n)

def put(n):
    store = "key-value-stores/" + os.environ["ACTOR_DEFAULT_KEY_VALUE_STORE_ID"]
    send("record", "PUT", store + "/records/" + attempt, n)

def work(after, pause_secs=0.02, writer="main"):
    n = 0
    while n < after:
        lines(n, n + 1, writer)
        if writer == "main" and n % 10 == 1:
            push(n)
        if writer == "main" and n % 15 == 2:
            put(n)
        if writer == "main" and n % 12 == 4:
            charge(n)
        time.sleep(pause_secs)
        n += 1
"""

_BODIES = {
    "quick": "work(15, 0.005)",
    "sleeper": "work(10**6)",
    "stubborn": "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwork(10**6)",
    "family": """
for child in ("first", "second"):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            work(10**6, 0.05, child)
        os._exit(0)
work(10**6)
""",
    # 60 lines are less than PIPE_BUF, so that no line is written in part.
    "flood": "for n in range(0, 6000, 60):\n    lines(n, n + 60)\npush(6000)",
    "failing": "work(4, 0.005)\nsys.exit(3)",
    "parent": 'send("child", "POST", "actors/" + @CHILD@ + "/runs?memory=128", 0)\nwork(10**6)',
}
ENDLESS = frozenset({"sleeper", "stubborn", "family", "parent"})
"""Only an abort ends them."""
FAILING = frozenset({"failing"})
KINDS = tuple(_BODIES)
_LINE = re.compile(r"(\w+) (main|first|second) (\d{7});")


def code_of(kind: str, notes: Path, child: str = "") -> str:
    """The module of an Actor of this kind; ``notes`` is a folder where each attempt keeps a file.

    Each process of a ``parent`` starts a run of the Actor ``child``.
    """
    return _HEAD.replace("@NOTES@", repr(str(notes))) + _BODIES[kind].replace("@CHILD@", repr(child)) + "\n"


@dataclass
class Notes:
    """What one attempt noted. Numbers of items and records: ``asked`` before the call, the other after its answer."""

    written: dict[str, int] = field(default_factory=dict)
    """The last line of each of its writers."""
    items: set[int] = field(default_factory=set)
    asked_items: set[int] = field(default_factory=set)
    records: set[int] = field(default_factory=set)
    asked_records: set[int] = field(default_factory=set)
    charges: set[int] = field(default_factory=set)
    asked_charges: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    asked_children: set[int] = field(default_factory=set)


def read_notes(file: Path) -> Notes:
    """The notes of an attempt that is over."""
    notes = Notes()
    sets = {
        "item": notes.items,
        "asked-item": notes.asked_items,
        "record": notes.records,
        "asked-record": notes.asked_records,
        "charge": notes.charges,
        "asked-charge": notes.asked_charges,
        "child": notes.children,
        "asked-child": notes.asked_children,
    }
    for line in file.read_text().splitlines():
        what, number = line.split()
        if what in sets:
            sets[what].add(int(number))
        else:
            notes.written[what] = int(number)
    return notes


def check_log(lines: list[str], attempts: list[str], notes: dict[str, Notes], cut: Iterable[str]) -> None:
    """Every line that was written is there, once and in order, an attempt's lines after those of the one before.

    ``attempts`` in the order of their starts. Of those in ``cut`` the end may be missing.
    """
    last: dict[tuple[str, str], int] = {}
    order: list[str] = []
    for line in lines:
        if line.startswith("ACTOR: "):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            assert line.split(" ")[0] in cut, f"a line that nobody wrote: {line!r}"
            continue
        attempt, writer, number = found[1], found[2], int(found[3])
        if order[-1:] != [attempt]:
            assert attempt not in order, f"lines of {attempt} after those of {order[-1]}"
            order.append(attempt)
        assert number == last.get((attempt, writer), -1) + 1, f"{line!r} after {last.get((attempt, writer))}"
        last[attempt, writer] = number
    assert order == [attempt for attempt in attempts if attempt in order], (order, attempts)
    for attempt in attempts:
        for writer, number in notes[attempt].written.items() if attempt in notes and attempt not in cut else ():
            found_last = last.get((attempt, writer), -1)
            assert found_last >= number, f"{attempt} {writer} wrote {number}, the log ends with {found_last}"


def check_items(items: list[dict[str, object]], notes: dict[str, Notes]) -> None:
    """Every acknowledged item is there once, and no other one twice or that nobody pushed."""
    found = [(str(item["attempt"]), int(str(item["n"]))) for item in items]
    assert len(found) == len(set(found)), "an item is there twice"
    acknowledged = {(attempt, n) for attempt, noted in notes.items() for n in noted.items}
    asked = {(attempt, n) for attempt, noted in notes.items() for n in noted.asked_items}
    assert acknowledged <= set(found), f"lost items: {acknowledged - set(found)}"
    assert set(found) <= asked, f"items nobody pushed: {set(found) - asked}"
