"""plan() over every status, every wish and everything that can be seen of a process."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from actorium.domain.models import (
    TERMINAL_STATUSES,
    JobStatus,
    Meta,
    Run,
    RunOptions,
    RunStats,
    StopReason,
    Wanted,
)
from actorium.domain.states import (
    TRANSITIONS,
    Finish,
    Launch,
    Life,
    Notify,
    Observation,
    Park,
    Stop,
    TimeOut,
    Wait,
    diagram,
    plan,
)

NOW = 1_000_000
S = JobStatus


def a_run(**changes: Any) -> Run:
    run = Run(
        id="r",
        user_id="u",
        actor_id="a",
        task_id=None,
        build_id="b",
        build_number="0.0.1",
        status=S.RUNNING,
        started_at=0,
        finished_at=None,
        running_at=0,
        timeout_at=None,
        wanted=Wanted.RUN,
        stop_at=None,
        stop_reason=None,
        status_message=None,
        is_status_message_terminal=None,
        is_platform_message=False,
        exit_code=None,
        meta=Meta("API"),
        options=RunOptions("latest", 60, 256, 512),
        stats=RunStats(),
        general_access="FOLLOW_USER_SETTING",
        default_dataset_id="d",
        default_key_value_store_id="k",
        default_request_queue_id="q",
        storage_ids={},
        container_slug="s",
        events_secret="e",
        workflow_key="w",
    )
    return msgspec.structs.replace(run, **changes)


LIVE = Observation(Life.LIVE)
NONE = Observation(Life.NONE)
GONE = Observation(Life.GONE)


def exited(code: int | None, *, at: int = NOW, oom: bool = False) -> Observation:
    return Observation(Life.EXITED, code, oom, at)


def test_ready_is_launched_but_not_by_a_server_that_stops() -> None:
    assert plan(a_run(status=S.READY), NONE, NOW) == Launch()
    assert plan(a_run(status=S.READY), NONE, NOW, may_launch=False) == Park()


def test_running_waits_for_its_timeout() -> None:
    assert plan(a_run(), LIVE, NOW) == Wait(None)
    assert plan(a_run(timeout_at=NOW + 1), LIVE, NOW) == Wait(NOW + 1)
    assert plan(a_run(timeout_at=NOW), LIVE, NOW) == TimeOut()


def test_timing_out_gets_sigterm_and_ends_timed_out_however_it_exits() -> None:
    run = a_run(status=S.TIMING_OUT)
    assert plan(run, LIVE, NOW) == Stop(kill=False)
    for seen in (exited(0), exited(1), GONE):
        assert isinstance(step := plan(run, seen, NOW), Finish)
        assert step.status is S.TIMED_OUT


@pytest.mark.parametrize("code", [0, 1, 91, 137, 143])
@pytest.mark.parametrize("restart_on_error", [False, True])
def test_aborting_ends_aborted_whatever_the_exit_code(code: int, restart_on_error: bool) -> None:
    options = RunOptions("latest", 60, 256, 512, restart_on_error=restart_on_error)
    run = a_run(status=S.ABORTING, wanted=Wanted.STOP, stop_at=NOW + 30_000, options=options)
    assert plan(run, exited(code), NOW) == Finish(S.ABORTED)
    assert plan(run, GONE, NOW) == Finish(S.ABORTED)
    assert plan(run, NONE, NOW) == Finish(S.ABORTED)


def test_graceful_abort_notifies_until_its_deadline_then_stops_with_sigterm_first() -> None:
    run = a_run(status=S.ABORTING, wanted=Wanted.STOP, stop_at=NOW + 30_000, stop_reason=StopReason.GRACEFUL_ABORT)
    step = plan(run, LIVE, NOW)
    assert step == Notify((("aborting", {}), ("persistState", {"isMigrating": False})), NOW + 30_000)
    assert isinstance(plan(run, LIVE, NOW + 29_999), Notify)
    assert plan(run, LIVE, NOW + 30_000) == Stop(kill=False)


def test_immediate_abort_kills() -> None:
    run = a_run(status=S.ABORTING, wanted=Wanted.STOP, stop_at=NOW, stop_reason=StopReason.ABORT)
    assert plan(run, LIVE, NOW) == Stop(kill=True)


def test_an_exit_decides_the_status() -> None:
    assert plan(a_run(), exited(0), NOW) == Finish(S.SUCCEEDED)
    assert plan(a_run(), exited(3), NOW) == Finish(S.FAILED, "The Actor's process ended with exit code 3.")
    step = plan(a_run(), exited(137, oom=True), NOW)
    assert isinstance(step, Finish)
    assert step.status is S.FAILED
    assert "ran out of memory" in (step.message or "")
    # The main process may exit 0 although its tree was killed for its memory.
    step = plan(a_run(), exited(0, oom=True), NOW)
    assert isinstance(step, Finish)
    assert step.status is S.FAILED


def restarted_at(*times: int) -> Run:
    options = RunOptions("latest", 60, 256, 512, restart_on_error=True)
    return a_run(options=options, stats=RunStats(restarts_at=times))


def test_restart_on_error_three_times_a_minute() -> None:
    later = NOW + 2000
    assert plan(restarted_at(), exited(1), NOW) == Launch("restart_count")
    assert plan(restarted_at(NOW - 1, NOW - 2), exited(1), later) == Launch("restart_count")
    assert isinstance(plan(restarted_at(NOW - 1, NOW - 2, NOW - 3), exited(1), later), Finish)
    assert plan(restarted_at(NOW - 1, NOW - 2, later - 60_000), exited(1), later) == Launch("restart_count")
    assert plan(restarted_at(), exited(0), NOW) == Finish(S.SUCCEEDED)


def test_the_second_restart_waits_a_second_and_the_third_two() -> None:
    assert plan(restarted_at(NOW - 5), exited(1), NOW) == Wait(NOW + 1000)
    assert plan(restarted_at(NOW - 5), exited(1), NOW + 1000) == Launch("restart_count")
    assert plan(restarted_at(NOW - 5, NOW - 6), exited(1), NOW) == Wait(NOW + 2000)
    assert plan(restarted_at(NOW - 5), exited(1), NOW, may_launch=False) == Park()


def test_what_was_due_when_the_last_attempt_was_accounted_for_is_still_due() -> None:
    due = Observation(Life.NONE, due=Launch("reboot_count"))
    assert plan(a_run(), due, NOW) == Launch("reboot_count")
    assert plan(a_run(), due, NOW, may_launch=False) == Park()
    assert plan(a_run(wanted=Wanted.METAMORPH, stop_at=NOW), due, NOW) == Launch()
    assert plan(a_run(status=S.ABORTING, wanted=Wanted.STOP), due, NOW) == Finish(S.ABORTED)


@pytest.mark.parametrize("seen", [NONE, GONE, exited(0, at=NOW - 1), exited(1, at=NOW - 1), exited(137)])
def test_metamorph_kills_and_goes_on_however_the_old_process_ended(seen: Observation) -> None:
    run = a_run(wanted=Wanted.METAMORPH, stop_at=NOW)
    assert plan(run, LIVE, NOW) == Stop(kill=True)
    assert plan(run, seen, NOW) == Launch()
    assert plan(run, seen, NOW, may_launch=False) == Park()


def test_a_vanished_process_is_a_migration() -> None:
    assert plan(a_run(), GONE, NOW) == Launch("migration_count", is_loss=True)
    assert plan(a_run(), NONE, NOW) == Launch("migration_count")


def test_migration_window() -> None:
    run = a_run(wanted=Wanted.MIGRATE, stop_at=NOW + 5000)
    step = plan(run, LIVE, NOW)
    assert step == Notify((("migrating", {"timeRemainingSecs": 5.0}),), NOW + 5000)
    assert plan(run, LIVE, NOW + 5000) == Stop(kill=False)
    # Our own stop is swallowed, an exit inside the window is the Actor's own.
    assert plan(run, exited(143, at=NOW + 5000), NOW + 5001) == Launch("migration_count")
    assert plan(run, exited(143, at=NOW + 5000), NOW + 5001, may_launch=False) == Park()
    assert plan(run, exited(0, at=NOW + 4999), NOW + 5001) == Finish(S.SUCCEEDED)


def test_migration_window_yields_to_the_timeout() -> None:
    run = a_run(wanted=Wanted.MIGRATE, stop_at=NOW + 5000, timeout_at=NOW + 1000)
    step = plan(run, LIVE, NOW)
    assert isinstance(step, Notify)
    assert step.until == NOW + 1000
    assert plan(run, LIVE, NOW + 1000) == TimeOut()


def test_reboot_kills_at_once_and_starts_anew() -> None:
    run = a_run(wanted=Wanted.RESTART, stop_at=NOW)
    assert plan(run, LIVE, NOW) == Stop(kill=True)
    assert plan(run, exited(137), NOW) == Launch("reboot_count")


EVERYTHING = list(
    itertools.product(
        JobStatus,
        Wanted,
        [LIVE, NONE, GONE, exited(0), exited(1), exited(None), exited(137, oom=True)],
        [None, NOW - 1, NOW + 1],
        [True, False],
    )
)


@pytest.mark.parametrize("may_launch", [True, False])
def test_every_step_is_allowed_by_the_transition_table(may_launch: bool) -> None:
    for status, wanted, seen, stop_at, has_timeout in EVERYTHING:
        if status is S.READY and seen.life is Life.LIVE:
            continue  # a process exists only after the transaction that made the run RUNNING
        run = a_run(status=status, wanted=wanted, stop_at=stop_at, timeout_at=NOW + 5 if has_timeout else None)
        step = plan(run, seen, NOW, may_launch=may_launch)
        if isinstance(step, Finish):
            assert step.status in TRANSITIONS[status]
            assert seen.life is not Life.LIVE, "no final status while a process lives"
        if isinstance(step, Launch):
            assert may_launch
            assert seen.life is not Life.LIVE, "no second process"
            assert status in (S.READY, S.RUNNING)
        if isinstance(step, Stop | Notify | TimeOut):
            assert seen.life is Life.LIVE
        if isinstance(step, Wait | Notify) and step.until is not None:
            assert step.until > NOW, "a wait that is over would spin"
        if status in TERMINAL_STATUSES:
            assert step == Park()


def test_final_statuses_are_left_only_by_resurrection() -> None:
    for status in TERMINAL_STATUSES:
        assert set(TRANSITIONS[status]) == {S.READY}
    assert set(TRANSITIONS) == set(JobStatus)


def test_the_diagram_has_every_transition() -> None:
    text = diagram()
    for source, targets in TRANSITIONS.items():
        for target in targets:
            assert f"{source.replace('-', '_')} --> {target.replace('-', '_')}:" in text
