"""Random sequences of requests to runs while something is killed: each run ends once, truly, with all it did."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.databases import PostgresServer, Query, postgres_query, sqlite_query
from support.numbered_actors import KINDS, Notes, check_items, check_log, code_of, read_notes
from support.platform import Platform, attempts_alive, python_actor, wait_for
from support.run_history import RunHistory, check_changes, check_end
from support.run_sequences import Client, Faults, Watcher, World, end_all, notes_folder

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800), pytest.mark.xdist_group("faults")]

_CLIENTS = 4
_FAULTS = 4
_SETTINGS = {
    "abort_grace_secs": "1",
    "stop_grace_secs": "0.5",
    "requested_migration_window_secs": "0.5",
    "max_concurrent_runs": "10",
}


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
        actors = {kind: platform.build_actor(kind, python_actor(code_of(kind, notes))) for kind in KINDS}
        yield World(platform, actors, postgres)


def test_random_requests_and_kills(world: World, request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--fault-seed")
    # A round takes as long as several of the other fault tests.
    rounds = (request.config.getoption("--fault-rounds") + 1) // 2
    for round_ in range(rounds):
        name = f"{seed}-{round_}"
        struck: list[str] = []
        try:
            _play(world, name, struck)
            _check(world)
        except BaseException:
            print(f"--fault-seed {seed}, round {round_}, killed: {struck}\n{world.platform.log()[-4000:]}")
            raise


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
    query = _query(world)
    wait_for(lambda: query("SELECT id FROM attempts WHERE finished_at IS NULL OR removed = 0") == [])
    assert list((world.platform.data_dir / "runs").iterdir()) == []
    attempts: dict[str, list[str]] = {}
    for run_id, attempt in query("SELECT run_id, id FROM attempts ORDER BY run_id, number"):
        attempts.setdefault(run_id, []).append(attempt)
    folder = world.platform.data_dir.parent / "notes"
    notes = {file.name: read_notes(file) for file in folder.iterdir()}
    assert notes.keys() <= {attempt for of_run in attempts.values() for attempt in of_run}
    for history in histories:
        try:
            _check_run(world, history, attempts.get(history.run_id, []), notes)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{history.story()}") from error


def _check_run(world: World, history: RunHistory, attempts: list[str], notes: dict[str, Notes]) -> None:
    run = world.platform.run(history.run_id)
    check_changes(history)
    check_end(history, run, world.server_kills)
    own = {attempt: notes[attempt] for attempt in attempts if attempt in notes}
    check_log(world.platform.log_lines(run["id"]), attempts, own, history.cut_attempts)
    check_items(world.platform.call("GET", f"/v2/datasets/{run['defaultDatasetId']}/items"), own)
    for attempt, noted in own.items():
        if noted.records:
            record = f"/v2/key-value-stores/{run['defaultKeyValueStoreId']}/records/{attempt}"
            value = world.platform.call("GET", record)
            assert value["n"] in noted.asked_records, value
            assert value["n"] >= max(noted.records), (value, noted)


def _query(world: World) -> Query:
    if world.postgres is not None:
        return postgres_query(world.postgres.url())
    return sqlite_query(world.platform.data_dir / "actorium.db")
