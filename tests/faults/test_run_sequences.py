"""Random sequences of requests to runs while something is killed: each run ends once, truly, with all it did."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.databases import PostgresServer
from support.numbered_actors import KINDS, Notes, check_items, check_log, code_of, read_notes
from support.platform import Platform, attempts_alive, python_actor, wait_for
from support.run_history import RunHistory, check_changes, check_end, check_events
from support.run_sequences import PAGE_USD, Client, Faults, Watcher, World, end_all, notes_folder

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800), pytest.mark.xdist_group("faults")]

_CLIENTS = 4
_FAULTS = 4
_SETTINGS = {
    "abort_grace_secs": "1",
    "stop_grace_secs": "0.5",
    "requested_migration_window_secs": "0.5",
    "max_concurrent_runs": "10",
    "abort_children_with_parent": "true",
}
_PAGE = {"eventTitle": "Page", "eventDescription": "A page", "eventPriceUsd": PAGE_USD}
_PRICES = {"pricingModel": "PAY_PER_EVENT", "pricingPerEvent": {"actorChargeEvents": {"page": _PAGE}}}
_EVENTS = ["CREATED", "RESURRECTED", "SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    flags = [part for name, value in _SETTINGS.items() for part in ("--set", f"{name}={value}")]
    with ExitStack() as stack:
        postgres, env = None, {}
        if request.param == "postgres":
            postgres = PostgresServer(durable=True)
            stack.callback(postgres.close)
            postgres.start()
            env["ACTORIUM_DATABASE_URL"] = postgres.url()
        platform = Platform(tmp_path / "data", *flags, env=env).start()
        stack.callback(platform.stop)
        platform.first_token()
        notes = notes_folder(platform.data_dir)
        actors: dict[str, str] = {}
        for kind in KINDS:
            code = code_of(kind, notes, actors.get("sleeper", ""))
            actor = actors[kind] = platform.build_actor(kind, python_actor(code))
            platform.call("PUT", f"/v2/actors/{actor}", {"pricingInfos": [_PRICES]})
            hook = {"eventTypes": [f"ACTOR.RUN.{event}" for event in _EVENTS], "condition": {"actorId": actor}}
            # Nobody listens there: it is about what is written down.
            platform.call("POST", "/v2/webhooks", {**hook, "requestUrl": "http://127.0.0.1:9", "doNotRetry": True})
        yield World(platform, actors, postgres)


def test_random_requests_and_kills(world: World, request: pytest.FixtureRequest) -> None:
    """Rounds as ``--fault-rounds`` says, or for ``--fault-minutes``; each prints what it did (``-s``)."""
    seed = request.config.getoption("--fault-seed")
    # A round takes as long as several of the other fault tests.
    rounds = (request.config.getoption("--fault-rounds") + 4) // 5
    deadline = time.monotonic() + 60 * request.config.getoption("--fault-minutes")
    for round_ in itertools.count():
        if round_ >= rounds and time.monotonic() > deadline:
            return
        name = f"{seed}-{round_}"
        struck: list[str] = []
        try:
            _play(world, name, struck)
            _check(world)
        except BaseException:
            print(f"--fault-seed {seed}, round {round_}, killed: {struck}\n{world.platform.log()[-4000:]}")
            raise
        print(f"{name}: {world.summary()}, {len(struck)} faults", flush=True)


def _play(world: World, seed: str, struck: list[str]) -> None:
    world.start_round()
    watcher = Watcher(world)
    clients = [Client(world, f"{seed}-{number}") for number in range(_CLIENTS)]
    faults, pauses = Faults(world, seed), random.Random(seed)
    for thread in (watcher, *clients):
        thread.start()
    try:
        for _ in range(_FAULTS):
            time.sleep(0.3 + pauses.random() * 2)
            struck.append(faults.strike())
        time.sleep(0.5)
    finally:
        world.stopping.set()
        for client in clients:
            client.join(60)
        try:
            end_all(world)
        finally:
            watcher.stopping.set()
            watcher.join(60)


def _check(world: World) -> None:
    assert world.problems == []
    histories = [history for history in world.histories() if history.seen]
    assert len(histories) >= _CLIENTS
    ours = {history.run_id for history in histories}
    assert ours & attempts_alive().keys() == set()
    query = world.query
    wait_for(lambda: query("SELECT id FROM attempts WHERE finished_at IS NULL OR removed = 0") == [])
    assert list((world.platform.data_dir / "runs").iterdir()) == []
    attempts: dict[str, list[str]] = {}
    for run_id, attempt in query("SELECT run_id, id FROM attempts ORDER BY run_id, number"):
        attempts.setdefault(run_id, []).append(attempt)
    folder = world.platform.data_dir.parent / "notes"
    notes = {file.name: read_notes(file) for file in folder.iterdir()}
    assert notes.keys() <= {attempt for of_run in attempts.values() for attempt in of_run}
    parents, events = world.parents(), _events(world)
    for history in histories:
        parent = world.history(parents[history.run_id]) if history.run_id in parents else None
        try:
            run = world.platform.run(history.run_id)
            check_end(history, run, world.server_kills, parent)
            check_events(run, events[history.run_id])
            _check_run(world, history, run, attempts.get(history.run_id, []), notes)
        except AssertionError as error:
            of_parent = "" if parent is None else f"\nstarted by {parent.story()}"
            raise AssertionError(f"{error}\n{history.story()}{of_parent}") from error


def _check_run(
    world: World, history: RunHistory, run: dict[str, Any], attempts: list[str], notes: dict[str, Notes]
) -> None:
    check_changes(history)
    own = {attempt: notes[attempt] for attempt in attempts if attempt in notes}
    check_log(world.platform.log_lines(run["id"]), attempts, own, history.cut_attempts)
    check_items(world.platform.call("GET", f"/v2/datasets/{run['defaultDatasetId']}/items"), own)
    for attempt, noted in own.items():
        if noted.records:
            record = f"/v2/key-value-stores/{run['defaultKeyValueStoreId']}/records/{attempt}"
            value = world.platform.call("GET", record)
            assert value["n"] in noted.asked_records, value
            assert value["n"] >= max(noted.records), (value, noted)
    charged = run["chargedEventCounts"]["page"]
    acknowledged = sum(len(noted.charges) for noted in own.values())
    assert acknowledged <= charged <= sum(len(noted.asked_charges) for noted in own.values())


def _events(world: World) -> dict[str, list[tuple[str, int]]]:
    """By run: what its webhooks are to be told, once for each dispatch, and when it happened."""
    found: dict[str, list[tuple[str, int]]] = {}
    for kind, at, data in world.query(
        "SELECT e.event_type, e.created_at, e.data_json FROM webhook_events e "
        "JOIN webhook_dispatches d ON d.event_id = e.id"
    ):
        found.setdefault(json.loads(data)["actorRunId"], []).append((kind, at))
    return found
