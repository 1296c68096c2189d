"""What clients asked of runs and what they saw of them, and whether the runs' ends agree with that."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

TERMINAL = frozenset({"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"})
_RANKS = {"READY": 0, "RUNNING": 1, "TIMING-OUT": 2, "ABORTING": 3, **dict.fromkeys(TERMINAL, 4)}
SHORT_TIMEOUT_SECS = 2
"""Of the runs that are to time out."""
_LOSSES_THAT_FAIL = 4
"""More than ``LOSS_LIMIT`` of ``domain/states.py``."""


@dataclass
class Asked:
    """One request. ``ended`` is ``None`` while it is under way; ``answer`` is the status told, if one was."""

    verb: str
    begun: float
    ended: float | None = None
    answer: str | None = None
    refusal: str | None = None


@dataclass
class Seen:
    """A status that was read from the server between ``begun`` and ``ended``."""

    begun: float
    ended: float
    status: str
    finished_at: str | None


@dataclass
class RunHistory:
    """Everything known of one run from outside."""

    run_id: str
    kinds: set[str] = field(default_factory=set)
    """Kinds of the Actors it was, or may have been."""
    asked: list[Asked] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    """By one reader, in order; equal neighbours are one."""
    killed_attempts: set[str] = field(default_factory=set)
    """Attempts whose main process was killed from outside."""
    cut_attempts: set[str] = field(default_factory=set)
    """Attempts whose keeper was killed: what was in the pipe is gone."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, verb: str) -> Asked:
        """To be called before a request is sent."""
        asked = Asked(verb, time.monotonic())
        with self.lock:
            self.asked.append(asked)
        return asked

    def see(self, begun: float, run: dict[str, Any]) -> bool:
        """Take in what the one reader read; returns whether the run has just been seen to have ended."""
        now, status, finished_at = time.monotonic(), run["status"], run.get("finishedAt")
        last = self.seen[-1] if self.seen else None
        if last is not None and (last.status, last.finished_at) == (status, finished_at):
            last.begun, last.ended = begun, now
            return False
        self.seen.append(Seen(begun, now, status, finished_at))
        return status in TERMINAL

    def was_asked(self, *verbs: str) -> list[Asked]:
        """The requests of these kinds that were not refused."""
        with self.lock:
            return [asked for asked in self.asked if asked.verb in verbs and asked.refusal is None]

    @property
    def is_alive(self) -> bool:
        """Whether it was last seen alive, or not yet."""
        return not self.seen or self.seen[-1].status not in TERMINAL

    @property
    def may_have_been_aborted(self) -> bool:
        """Whether it was ever asked for, or seen; it may not be seen where a resurrect came soon."""
        seen = any(seen.status in ("ABORTING", "ABORTED") for seen in self.seen)
        return seen or bool(self.was_asked("abort", "graceful-abort"))

    def story(self) -> str:
        """For a failure's message."""
        start = self.asked[0].begun if self.asked else 0.0
        rows = [
            (a.begun, f"{a.verb} -> {a.answer or a.refusal} in {(a.ended or a.begun) - a.begun:.2f}")
            for a in self.asked
        ]
        rows += [(s.begun, f"  is {s.status} until {s.ended - start:.2f} {s.finished_at or ''}") for s in self.seen]
        text = "\n".join(f"{at - start:8.2f} {what}" for at, what in sorted(rows))
        return f"{self.run_id} {self.kinds} killed {self.killed_attempts} cut {self.cut_attempts}\n{text}"


def check_changes(history: RunHistory) -> None:
    """What was seen is a way through the states, and leaves a final one only if a resurrect was asked for."""
    resurrects = history.was_asked("resurrect")
    ends: dict[str, str] = {}
    for before, after in zip(history.seen, history.seen[1:], strict=False):
        if before.status in TERMINAL:
            assert any(asked.begun <= after.ended for asked in resurrects), f"{before.status} became {after.status}"
        elif not resurrects:
            assert _RANKS[after.status] > _RANKS[before.status], f"{before.status} became {after.status}"
    for seen in history.seen:
        assert (seen.status in TERMINAL) == (seen.finished_at is not None), seen
        if seen.finished_at is not None:
            assert ends.setdefault(seen.finished_at, seen.status) == seen.status, "one end with two statuses"
    assert len(ends) <= 1 + len(resurrects), f"{len(ends)} ends after {len(resurrects)} resurrects"


def check_end(history: RunHistory, final: dict[str, Any], server_kills: int, parent: RunHistory | None) -> None:
    """The final status is what was told last, and one that something asked for, or did, accounts for."""
    status = final["status"]
    assert status in TERMINAL
    assert final["finishedAt"] >= final["startedAt"]
    resurrects = history.was_asked("resurrect")
    told = [(asked.begun, asked.answer) for asked in history.asked if asked.answer is not None]
    told += [(seen.begun, seen.status) for seen in history.seen]
    for at, what in told:
        end = "ABORTED" if what == "ABORTING" else what
        if end in TERMINAL and not any(asked.ended is None or asked.ended > at for asked in resurrects):
            assert status == end, f"it was told to be {what} and ended {status}"
    acknowledged = [asked for asked in resurrects if asked.answer is not None]
    assert len(acknowledged) <= final["stats"]["resurrectCount"] <= len(resurrects)
    losses = len(history.cut_attempts) + server_kills
    causes = {
        "ABORTED": bool(history.was_asked("abort", "graceful-abort"))
        or (parent is not None and parent.may_have_been_aborted)
        or "maxTotalChargeUsd" in final["options"],
        "TIMED-OUT": final["options"]["timeoutSecs"] == SHORT_TIMEOUT_SECS,
        "SUCCEEDED": bool(history.kinds & {"quick", "flood"}),
        "FAILED": "failing" in history.kinds or bool(history.killed_attempts) or losses >= _LOSSES_THAT_FAIL,
    }
    if final.get("chargingStoppedAt") is not None and not resurrects:
        assert status == "ABORTED", "it reached its limit of charges"
    assert causes[status], f"nothing accounts for {status}: {final.get('statusMessage')}"


def check_events(run: dict[str, Any], events: list[tuple[str, int]]) -> None:
    """What was written down for webhooks: every creation, resurrection and end once, the end that was last at last."""
    resurrections = run["stats"]["resurrectCount"]
    kinds = [kind.removeprefix("ACTOR.RUN.") for kind, _ in events]
    assert (kinds.count("CREATED"), kinds.count("RESURRECTED")) == (1, resurrections), events
    ends = [(at, kind) for kind, at in events if not kind.endswith(("CREATED", "RESURRECTED"))]
    assert len(ends) == 1 + resurrections, events
    last = f"ACTOR.RUN.{run['status'].replace('-', '_')}"
    assert (max(ends)[0], last) in ends, (events, run["status"])
