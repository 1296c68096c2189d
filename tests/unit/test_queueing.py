"""The order in which waiting runs start."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.accounts import UserLimits
from actorium.domain.queueing import Capacity, Use, Waiting, queue_rank, startable

MACHINE = Use(4096, 10)


def started(
    queues: dict[str, list[Waiting]],
    in_use: dict[str, Use] | None = None,
    limits: dict[str, Use] | None = None,
    *,
    now: int = 0,
    machine: Use = MACHINE,
) -> list[str]:
    limits = dict.fromkeys(queues, machine) | (limits or {})
    chosen = startable(queues, in_use or {}, limits, machine, now=now, overtaking_ms=60_000)
    return [run.id for run in chosen]


def line(user_id: str, *sizes: int, queued_at: int = 0) -> list[Waiting]:
    return [Waiting(f"{user_id}{n}", user_id, size, queued_at + n) for n, size in enumerate(sizes)]


def test_everything_that_fits_starts_oldest_first() -> None:
    assert started({"a": line("a", 1024, 1024, 1024, 1024, 1024)}) == ["a0", "a1", "a2", "a3"]


def test_users_take_turns_whoever_came_first() -> None:
    queues = {"a": line("a", *[1024] * 1000), "b": line("b", 1024, 1024, queued_at=5000)}
    assert started(queues) == ["a0", "b0", "a1", "b1"]


def test_the_user_who_holds_less_memory_goes_first() -> None:
    queues = {"a": line("a", 1024), "b": line("b", 1024, queued_at=5000)}
    assert started(queues, {"a": Use(2048, 2), "b": Use(1024, 8)}, machine=Use(4096, 100)) == ["b0"]


def test_smaller_runs_overtake_one_that_does_not_fit_only_for_a_time() -> None:
    queues = {"a": line("a", 4096, 128, 128), "b": line("b", 128)}
    in_use = {"c": Use(1024, 1)}
    assert started(queues, in_use, now=59_999) == ["b0", "a1", "a2"]
    assert started(queues, in_use, now=60_000) == [], "the machine is kept for the large run of a"
    assert started(queues, {}, now=60_000) == ["a0"]


def test_a_user_who_is_at_the_own_limit_holds_up_nobody_else() -> None:
    queues = {"a": line("a", 1024, 128), "b": line("b", 128)}
    limits = {"a": Use(1024, 10)}
    in_use = {"a": Use(512, 1)}
    assert started(queues, in_use, limits, now=70_000) == ["b0"]
    assert started(queues, in_use, limits, now=100) == ["b0", "a1"]
    assert started(queues, in_use, {"a": Use(4096, 1)}) == ["b0"]


def test_places_are_a_limit_too() -> None:
    assert started({"a": line("a", 128, 128, 128)}, {"b": Use(128, 8)}) == ["a0", "a1"]


def test_priority_then_children_then_age() -> None:
    ranks = [queue_rank(p, has_parent=child) for p, child in [(1, False), (0, True), (0, False), (-1, True)]]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == 4


def test_limits_of_one_user_stand_over_those_of_all_and_under_the_machine() -> None:
    capacity = Capacity(MACHINE, Use(1024, 4))
    assert capacity.of_user(None) == Use(1024, 4)
    assert capacity.of_user(UserLimits(max_memory_mbytes=2048)) == Use(2048, 4)
    assert capacity.of_user(UserLimits(max_memory_mbytes=9999, max_concurrent_runs=99)) == MACHINE
    assert capacity.of_user(UserLimits(max_concurrent_runs=0)).run_count == 0


_queue = st.lists(st.tuples(st.sampled_from([128, 256, 1024, 2048]), st.integers(0, 100_000)), max_size=8)


@given(st.dictionaries(st.sampled_from("abc"), _queue), st.dictionaries(st.sampled_from("abc"), _queue))
def test_limits_hold_and_late_runs_are_not_overtaken(
    waiting: dict[str, list[tuple[int, int]]], holding: dict[str, list[tuple[int, int]]]
) -> None:
    now = 100_000
    queues = {
        user: [Waiting(f"{user}{n}", user, size, at) for n, (size, at) in enumerate(rows)]
        for user, rows in waiting.items()
    }
    in_use = {user: Use(sum(size for size, _ in rows), len(rows)) for user, rows in holding.items()}
    limits = {user: Use(3072, 4) for user in queues}
    chosen = startable(queues, in_use, limits, MACHINE, now=now, overtaking_ms=60_000)
    assert len(set(chosen)) == len(chosen)
    for user, queue in queues.items():
        picked = [run for run in queue if run in chosen]
        if picked:
            use = in_use.get(user, Use())
            assert use.memory_mbytes + sum(run.memory_mbytes for run in picked) <= 3072
            assert use.run_count + len(picked) <= 4
            late = [n for n, run in enumerate(queue) if run not in chosen and now - run.queued_at >= 60_000]
            assert not late or max(n for n, run in enumerate(queue) if run in chosen) < late[0]
    if chosen:
        memory = sum(use.memory_mbytes for use in in_use.values()) + sum(run.memory_mbytes for run in chosen)
        assert memory <= MACHINE.memory_mbytes
        assert sum(use.run_count for use in in_use.values()) + len(chosen) <= MACHINE.run_count
