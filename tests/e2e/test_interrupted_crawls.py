"""Crawls through a shared queue that are interrupted: what was locked is not lost, and no page is done twice."""

from __future__ import annotations

import pytest

from support.crawls import Crawl, Crawls

pytestmark = [pytest.mark.long, pytest.mark.timeout(400), pytest.mark.xdist_group("sdk")]

_CONCURRENCY = 5
_LOCK_SECS = 20
_EACH = pytest.mark.parametrize("name", ["python-shared", pytest.param("javascript", marks=pytest.mark.node)])


@_EACH
def test_one_of_two_runs_is_aborted_gracefully_and_goes_on(crawls: Crawls, name: str) -> None:
    crawl = crawls.new(named_queue=True)
    crawl.start_together([name] * 2, unlock=True)
    crawl.wait_for_hits(crawls.site.pages // 10)
    aborted = crawl.runs[0]
    crawl.abort(aborted, gracefully=True)
    # The pages it was at were finished, and nothing was pushed that the queue does not know as handled.
    pushed = crawl.pushed(aborted)
    requests = crawl.requests()
    assert [page for page in pushed if not requests[page].get("handledAt")] == []
    crawls.platform.call("POST", f"/v2/actor-runs/{aborted}/resurrect")
    crawl.succeed()
    crawl.check(had_multiple_clients=True)
    assert crawl.hits() == {1: crawls.site.pages}


def _abort_while_pages_are_fetched(crawl: Crawl, crawler: str) -> tuple[str, list[str]]:
    """A run that is killed in the middle of a crawl, and the pages it had asked for and not got."""
    run_id = crawl.start(crawler, concurrency=_CONCURRENCY, lockSecs=_LOCK_SECS)
    crawl.wait_for_hits(crawl.site.pages // 10)
    held = crawl.hold(_CONCURRENCY)
    crawl.abort(run_id)
    crawl.site.release(crawl.name)
    return run_id, held


@pytest.mark.node
def test_another_run_takes_over_when_the_locks_of_an_aborted_one_expire(crawls: Crawls) -> None:
    crawl = crawls.new(named_queue=True)
    _, held = _abort_while_pages_are_fetched(crawl, "javascript")
    locked = crawl.requests("locked")
    assert set(held) < set(locked)
    second = crawl.start("javascript", lockSecs=_LOCK_SECS)
    crawl.succeed(second)
    crawl.check(had_multiple_clients=True)
    assert crawl.fetched_again() == dict.fromkeys(held, 2)
    assert set(locked) <= set(crawl.pushed(second))
    requests = crawl.requests()
    early = [page for page, before in locked.items() if requests[page]["handledAt"] < before["lockExpiresAt"]]
    assert early == [], "nobody gets a request before its lock expires"


def test_another_run_takes_over_when_the_locks_of_an_aborted_one_are_released(crawls: Crawls) -> None:
    crawl = crawls.new(named_queue=True)
    aborted, held = _abort_while_pages_are_fetched(crawl, "python-shared")
    locked = crawl.requests("locked")
    assert set(held) < set(locked)
    # The Python SDK's client key is the run's id.
    released = crawls.platform.call("POST", f"{crawl.queue_path}/requests/unlock?clientKey={aborted}")
    assert released == {"unlockedCount": len(locked)}
    second = crawl.start("python-shared")
    crawl.succeed(second)
    crawl.check(had_multiple_clients=True)
    assert crawl.fetched_again() == dict.fromkeys(held, 2)
    assert set(locked) <= set(crawl.pushed(second))


@_EACH
def test_two_runs_go_on_after_the_server_was_restarted(crawls: Crawls, name: str) -> None:
    crawl = crawls.new(named_queue=True)
    crawl.start_together([name] * 2)
    crawl.wait_for_hits(crawls.site.pages // 10)
    crawls.platform.stop()
    crawls.platform.start()
    crawl.succeed()
    crawl.check(had_multiple_clients=True)
    assert crawl.hits() == {1: crawls.site.pages}
