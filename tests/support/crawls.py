"""Crawls of a whole site by runs on a real server, and what has to be true of them afterwards."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

from support.platform import Platform, wait_for
from support.site import Site

CRAWL_SECS = 170.0
"""Longer than any crawl takes, even on a machine with other things to do."""


class Crawls:
    """Starts crawls of ``site`` on ``platform`` with the Actors whose files are in ``crawlers``."""

    def __init__(self, platform: Platform, site: Site, crawlers: Mapping[str, Mapping[str, str]]) -> None:
        self.platform = platform
        self.site = site
        self._crawlers = crawlers
        self._built: dict[str, str] = {}

    def new(self, *, named_queue: bool) -> Crawl:
        """A crawl through a named queue, or through the queue of its only run."""
        return Crawl(self, named_queue=named_queue)

    def actor(self, crawler: str) -> str:
        """The id of an Actor, built when it is first asked for."""
        if crawler not in self._built:
            self._built[crawler] = self.platform.build_actor(f"{crawler}-crawl", self._crawlers[crawler])
        return self._built[crawler]


class Crawl:
    """One crawl of the site, by one or more runs."""

    def __init__(self, crawls: Crawls, *, named_queue: bool) -> None:
        self.platform = crawls.platform
        self.site = crawls.site
        self.name = f"crawl-{uuid.uuid4().hex[:12]}"
        self.runs: list[str] = []
        self._crawls = crawls
        self._is_named = named_queue

    def start(self, crawler: str, **actor_input: Any) -> str:
        """Start a run that crawls from page 0, and return its id."""
        actor_input = {"url": self.site.page(self.name, 0), "concurrency": 10, **actor_input}
        if self._is_named:
            actor_input["queueName"] = self.name
        path = f"/v2/actors/{self._crawls.actor(crawler)}/runs?memory=1024"
        run_id = str(self.platform.call("POST", path, actor_input)["id"])
        self.runs.append(run_id)
        return run_id

    def start_together(self, crawlers: list[str], **actor_input: Any) -> None:
        """Start a run of each; none begins to crawl before all are ready to."""
        together = f"{self.site.url}/{self.name}/together/{len(crawlers)}"
        for crawler in crawlers:
            self.start(crawler, togetherUrl=together, **actor_input)

    def wait_for_hits(self, count: int) -> None:
        """Return in the middle of the crawl: ``count`` pages were fetched."""
        wait_for(lambda: sum(self.site.hits(self.name).values()) >= count, CRAWL_SECS)

    def hold(self, count: int) -> list[str]:
        """Leave pages without an answer until ``count`` wait for one, and return these."""
        self.site.hold(self.name)
        wait_for(lambda: len(self.site.held(self.name)) == count)
        return self.site.held(self.name)

    def abort(self, run_id: str, *, gracefully: bool = False) -> None:
        """Abort a run and wait until it is over."""
        self.platform.call("POST", f"/v2/actor-runs/{run_id}/abort?gracefully={int(gracefully)}")
        assert self.platform.ended(run_id)["status"] == "ABORTED"

    def succeed(self, *runs: str) -> None:
        """Wait until these runs, without any all runs of the crawl, are over."""
        for run_id in runs or self.runs:
            ended = self.platform.ended(run_id, CRAWL_SECS)
            assert ended["status"] == "SUCCEEDED", (self.queue(), self.platform.log_lines(run_id)[-30:])

    def pushed(self, run_id: str) -> list[str]:
        """The pages in the run's dataset."""
        dataset_id = self.platform.run(run_id)["defaultDatasetId"]
        items = self.platform.call("GET", f"/v2/datasets/{dataset_id}/items")
        return [item["url"] for item in items]

    def pushed_by_all(self) -> list[str]:
        return sorted(url for run_id in self.runs for url in self.pushed(run_id))

    def hits(self) -> Counter[int]:
        """How many pages were fetched once, how many twice, and so on."""
        return Counter(self.site.hits(self.name).values())

    def fetched_again(self) -> dict[str, int]:
        """The pages that were fetched more than once, and how often."""
        return {page: count for page, count in self.site.hits(self.name).items() if count > 1}

    @property
    def queue_path(self) -> str:
        if self._is_named:
            return f"/v2/request-queues/~{self.name}"
        return f"/v2/request-queues/{self.platform.run(self.runs[0])['defaultRequestQueueId']}"

    def queue(self) -> Mapping[str, Any]:
        found: dict[str, Any] = self.platform.call("GET", self.queue_path)
        return found

    def requests(self, kind: str = "") -> dict[str, dict[str, Any]]:
        """Requests of the queue by their page, all or the ``locked`` ones. This call is a client of its own."""
        found = self.platform.call("GET", f"{self.queue_path}/requests?{kind and f'filter={kind}'}")
        return {request["url"]: request for request in found["items"]}

    def check(self, *, had_multiple_clients: bool) -> None:
        """Every page is in the datasets exactly once, and the queue is done with all of them."""
        pages = self.site.pages
        assert self.pushed_by_all() == self.site.all_pages(self.name), "every page exactly once"
        queue = self.queue()
        counts = [queue[name] for name in ("totalRequestCount", "handledRequestCount", "pendingRequestCount")]
        assert counts == [pages, pages, 0]
        assert queue["hadMultipleClients"] is had_multiple_clients
        requests = self.requests()
        assert sorted(requests) == self.site.all_pages(self.name)
        assert all(request.get("handledAt") for request in requests.values())
        assert self.requests("locked") == {}
        head = self.platform.call("POST", f"{self.queue_path}/head/lock?lockSecs=1")
        assert (head["items"], head["queueHasLockedRequests"]) == ([], False)
