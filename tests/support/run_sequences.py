"""Clients that ask random things of shared runs, a watcher that reads their statuses, and faults in between."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from actorium.runtimes.shim import proctree
from support.databases import PostgresServer, Query, postgres_query, sqlite_query
from support.numbered_actors import ENDLESS, KINDS
from support.platform import Platform, Refused, attempts_alive
from support.run_history import SHORT_TIMEOUT_SECS, Asked, RunHistory

ALIVE_AT_ONCE = 12
PAGE_USD = 0.01
_GONE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
_EXPECTED = {
    "resurrect": {"invalid-input"},
    "reboot": {"job-finished"},
    "metamorph": {"job-finished", "max-metamorphs-exceeded"},
    "migrate": {"job-finished"},
}
"""Error types a verb may be refused with, for the state the run is in."""
_FIRST_SERVER_ERROR = 500


class World:
    """What clients, watcher and faults share: the server, its Actors by kind, and the runs by id."""

    def __init__(self, platform: Platform, actors: dict[str, str], postgres: PostgresServer | None = None) -> None:
        self.platform = platform
        self.actors = actors
        self.postgres = postgres
        self.kinds = {actor_id: kind for kind, actor_id in actors.items()}
        self.query: Query = (
            sqlite_query(platform.data_dir / "actorium.db") if postgres is None else postgres_query(postgres.url())
        )
        self.problems: list[str] = []
        self.stopping = threading.Event()
        self.server_kills = 0
        self._past: set[str] = set()
        self._histories: dict[str, RunHistory] = {}
        self._lock = threading.Lock()

    def list_runs(self) -> list[dict[str, Any]]:
        """The runs of this round as the server lists them."""
        runs = self.platform.call("GET", "/v2/actor-runs?desc=1&limit=1000")["items"]
        return [run for run in runs if run["id"] not in self._past]

    def history(self, run_id: str) -> RunHistory:
        """What is known of a run, of one that nobody has heard of too."""
        with self._lock:
            return self._histories.setdefault(run_id, RunHistory(run_id))

    def histories(self) -> list[RunHistory]:
        """All of them, oldest first."""
        with self._lock:
            return list(self._histories.values())

    def parents(self) -> dict[str, str]:
        """The runs that runs have started, with those that started them."""
        return dict(self.query("SELECT id, parent_run_id FROM runs WHERE parent_run_id IS NOT NULL"))

    def summary(self) -> str:
        """What became of the runs of this round."""
        ends = Counter(run["status"] for run in self.list_runs())
        asked = Counter(asked.verb for history in self.histories() for asked in history.asked)
        children = len(self.parents().keys() & {history.run_id for history in self.histories()})
        return f"{ends.total()} runs {dict(ends)}, {children} of them children, asked {dict(asked)}"

    def start_round(self) -> None:
        """Look no more at the runs so far."""
        self._past |= {run["id"] for run in self.list_runs()}
        self.stopping.clear()
        self.server_kills = 0
        with self._lock:
            self._histories.clear()

    def ask(self, verb: str, history: RunHistory | None, path: str, body: object = None) -> None:
        """Send a request and keep what came of it; an answer of 500 counts as none while a database may be away."""
        asked = history.ask(verb) if history is not None else Asked(verb, time.monotonic())
        try:
            run = self.platform.call("PUT" if verb == "update" else "POST", path, body)
        except Refused as error:
            if error.status >= _FIRST_SERVER_ERROR:
                if self.postgres is None:
                    self.problems.append(f"{verb} {path}: {error}")
            else:
                asked.refusal = str(error)
                if error.type not in _EXPECTED.get(verb, ()):
                    self.problems.append(f"{verb} {path}: {error}")
        except _GONE as error:
            if isinstance(error, urllib.error.URLError) and isinstance(error.reason, ConnectionRefusedError):
                asked.refusal = "there was no server"
            time.sleep(0.2)
        else:
            asked.answer = run["status"]
            if history is None:
                history = self.history(run["id"])
                with history.lock:
                    history.asked.append(asked)
            history.kinds.add(self.kinds[run["actId"]])
        asked.ended = time.monotonic()


class Client(threading.Thread):
    """Starts runs while few are alive, and asks random things of random runs, those of other clients too."""

    def __init__(self, world: World, seed: str) -> None:
        super().__init__(name=f"client {seed}")
        self._world = world
        self._random = random.Random(seed)

    def run(self) -> None:
        while not self._world.stopping.is_set():
            histories = self._world.histories()
            alive = [history for history in histories if history.is_alive]
            if len(alive) < ALIVE_AT_ONCE and self._random.random() < 0.6:
                self._start()
            elif histories:
                self._act(self._random.choice(alive if alive and self._random.random() < 0.7 else histories))
            time.sleep(self._random.random() * 0.15)

    def _start(self) -> None:
        kind = self._random.choice(KINDS)
        query = f"memory=128&restartOnError={int(kind == 'failing')}"
        query += f"&waitForFinish={self._random.choice([0, 0, 1])}"
        if self._random.random() < 0.15:
            query += f"&timeout={SHORT_TIMEOUT_SECS}"
        if self._random.random() < 0.15:
            query += f"&maxTotalChargeUsd={2 * PAGE_USD}"
        self._world.ask("start", None, f"/v2/actors/{self._world.actors[kind]}/runs?{query}")

    def _act(self, history: RunHistory) -> None:
        verbs = ["abort", "graceful-abort", "resurrect", "reboot", "metamorph", "migrate", "update"]
        verbs += [] if history.is_alive else ["resurrect"] * 7
        verb, run = self._random.choice(verbs), f"/v2/actor-runs/{history.run_id}"
        match verb:
            case "graceful-abort":
                self._world.ask(verb, history, f"{run}/abort?gracefully=1")
            case "metamorph":
                kind = self._random.choice(KINDS)
                history.kinds.add(kind)
                self._world.ask(verb, history, f"{run}/metamorph?targetActorId={self._world.actors[kind]}")
            case "migrate":
                self._world.ask(verb, history, f"/actorium/runs/{history.run_id}/migrate")
            case "update":
                self._world.ask(verb, history, run, {"statusMessage": f"message {self._random.random()}"})
            case _:
                self._world.ask(verb, history, f"{run}/{verb}")


class Watcher(threading.Thread):
    """Reads all statuses over and over. Who is over has no process left, and no run has two attempts at once."""

    def __init__(self, world: World) -> None:
        super().__init__(name="watcher")
        self._world = world
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            begun = time.monotonic()
            try:
                runs = self._world.list_runs()
            except (Refused, *_GONE):
                runs = []
            ended = []
            for run in runs:
                history = self._world.history(run["id"])
                history.kinds.add(self._world.kinds[run["actId"]])
                if history.see(begun, run):
                    ended.append(history)
            self._look_at_processes(ended)
            time.sleep(0.05)

    def _look_at_processes(self, ended: list[RunHistory]) -> None:
        alive = attempts_alive()
        for history in ended:
            if history.run_id in alive and not history.was_asked("resurrect"):
                self._world.problems.append(f"over, but alive: {alive[history.run_id]}\n{history.story()}")
        double = {run_id for run_id, attempts in alive.items() if len(attempts) > 1} if alive else set()
        again = attempts_alive() if double else {}
        for history in self._world.histories():
            # Alive in both looks means alive at one moment, however long a look takes.
            both = {
                attempt
                for attempt, pids in alive.get(history.run_id, {}).items()
                if history.run_id in double and pids & again.get(history.run_id, {}).get(attempt, set())
            }
            if len(both) > 1:
                self._world.problems.append(f"two attempts at once: {both}\n{history.story()}")


class Faults:
    """Kills something, and starts again what does not do so by itself."""

    def __init__(self, world: World, seed: str) -> None:
        self._world = world
        self._random = random.Random(seed)

    def strike(self) -> str:
        """One fault; returns what it was."""
        choices: list[Callable[[], str]] = [self._kill_server, self._kill_server, self._kill_keeper, self._kill_main]
        choices.append(self._hold_server_up)
        if self._world.postgres is not None:
            choices += [self._kill_database, self._kill_both]
        return self._random.choice(choices)()

    def _kill_server(self) -> str:
        self._world.server_kills += 1
        self._world.platform.kill()
        time.sleep(self._random.random() * 0.5)
        self._world.platform.start()
        return "server"

    def _hold_server_up(self) -> str:
        os.kill(self._world.platform.pid, signal.SIGSTOP)
        time.sleep(self._random.random() * 1.5)
        os.kill(self._world.platform.pid, signal.SIGCONT)
        return "nothing but the server's time"

    def _kill_database(self) -> str:
        assert self._world.postgres is not None
        self._world.postgres.kill()
        time.sleep(self._random.random() * 0.5)
        self._world.postgres.start()
        return "database"

    def _kill_both(self) -> str:
        assert self._world.postgres is not None
        self._world.server_kills += 1
        self._world.postgres.kill()
        time.sleep(self._random.random() * 0.1)
        self._world.platform.kill()
        self._world.postgres.start()
        self._world.platform.start()
        return "database and server"

    def _kill_keeper(self) -> str:
        return self._kill_of_attempt("claim")

    def _kill_main(self) -> str:
        return self._kill_of_attempt("main")

    def _kill_of_attempt(self, link: str) -> str:
        folders = sorted(
            folder
            for folder in (self._world.platform.data_dir / "runs").iterdir()
            if not folder.name.startswith(".")
            and (folder / "main").is_symlink()
            and not (folder / "exit.json").exists()
        )
        if not folders:
            return "nothing"
        folder = self._random.choice(folders)
        try:
            who = str((folder / link).readlink()).removeprefix("shim:")
            run_id = json.loads((folder / "handle.json").read_text())["run_id"]
        except FileNotFoundError:
            return "nothing"
        history = self._world.history(run_id)
        (history.cut_attempts if link == "claim" else history.killed_attempts).add(folder.name)
        proctree.kill(who)
        return f"{'keeper' if link == 'claim' else 'main process'} of {run_id}"


def end_all(world: World) -> None:
    """Abort what nothing else ends, and wait until nothing is alive. What an aborted run had started has to end too."""
    deadline = time.monotonic() + 60
    while True:
        runs, parents = {run["id"]: run for run in world.list_runs()}, world.parents()
        alive = [run for run in runs.values() if run["finishedAt"] is None]
        if not alive:
            return

        def ends_with_parent(run: dict[str, Any], parents: dict[str, str] = parents, runs: Any = runs) -> bool:
            parent = runs.get(parents.get(run["id"], ""))
            if parent is None or any(world.history(one["id"]).was_asked("resurrect") for one in (run, parent)):
                return False
            return parent["finishedAt"] is None or parent["status"] == "ABORTED"

        for run in alive:
            if world.kinds[run["actId"]] in ENDLESS and not ends_with_parent(run):
                world.ask("abort", world.history(run["id"]), f"/v2/actor-runs/{run['id']}/abort")
        assert time.monotonic() < deadline, "\n".join(world.history(run["id"]).story() for run in alive)
        time.sleep(0.2)


def notes_folder(data_dir: Path) -> Path:
    """Where the Actors of a server's test keep their notes."""
    folder = data_dir.parent / "notes"
    folder.mkdir()
    return folder
