"""Crawlee crawls a site of 2,000 pages through a queue on the server, and handles every page exactly once."""

from __future__ import annotations

import pytest

from support.crawls import Crawls

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("sdk")]

_JAVASCRIPT = pytest.param("javascript", marks=pytest.mark.node)


@pytest.mark.parametrize("name", ["python-single", "python-shared", _JAVASCRIPT])
def test_a_run_crawls_through_its_own_queue(crawls: Crawls, name: str) -> None:
    crawl = crawls.new(named_queue=False)
    crawl.start(name)
    crawl.succeed()
    crawl.check(had_multiple_clients=False)
    assert crawl.hits() == {1: crawls.site.pages}


@pytest.mark.parametrize(
    "names",
    [
        ["python-shared", "python-shared"],
        pytest.param(["javascript", "javascript"], marks=pytest.mark.node),
        pytest.param(["python-shared", "javascript"], marks=pytest.mark.node),
    ],
    ids=" and ".join,
)
def test_two_runs_share_a_queue(crawls: Crawls, names: list[str]) -> None:
    crawl = crawls.new(named_queue=True)
    crawl.start_together(names)
    crawl.succeed()
    crawl.check(had_multiple_clients=True)
    assert crawl.hits() == {1: crawls.site.pages}
    # Nothing promises halves, only that neither run is left without work.
    assert min(len(crawl.pushed(run_id)) for run_id in crawl.runs) >= crawls.site.pages // 20


@pytest.mark.long
@pytest.mark.parametrize("crawls", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", ["python-shared", _JAVASCRIPT])
def test_a_request_list_feeds_a_named_queue(crawls: Crawls, name: str) -> None:
    """Pages of the list are found through links too, before or after the list gets to them."""
    crawl = crawls.new(named_queue=True)
    crawl.start(name, urls=[crawls.site.page(crawl.name, number) for number in range(300)])
    crawl.succeed()
    crawl.check(had_multiple_clients=False)
    assert crawl.hits() == {1: crawls.site.pages}


@pytest.mark.node
@pytest.mark.parametrize("crawls", ["sqlite"], indirect=True)
def test_the_older_queue_of_crawlee_works_without_locks(crawls: Crawls) -> None:
    crawl = crawls.new(named_queue=False)
    crawl.start("javascript", withoutLocks=True)
    crawl.succeed()
    crawl.check(had_multiple_clients=False)
    assert crawl.hits() == {1: crawls.site.pages}
