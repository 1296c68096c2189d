"""Actors with the stock SDKs: events, state, a crawl that is aborted in the middle and goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import PAGES
from support.platform import Platform, processes_of, wait_for

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("sdk")]

_SAMPLES = Path(__file__).parents[2] / "src" / "actorium" / "samples"

_PYTHON_CRAWLER = """
import asyncio
from datetime import timedelta

from apify import Actor, Event
from crawlee import ConcurrencySettings
from crawlee.crawlers import BeautifulSoupCrawler, BeautifulSoupCrawlingContext


async def main() -> None:
    async with Actor:
        async def told(name: str) -> None:
            Actor.log.info(f"EVENT {name}")

        async def on_aborting() -> None:
            await told("aborting")
            crawler.stop()

        async def on_persist_state() -> None:
            await told("persistState")

        crawler = BeautifulSoupCrawler(
            concurrency_settings=ConcurrencySettings(desired_concurrency=1, max_concurrency=1),
        )
        Actor.on(Event.ABORTING, on_aborting)
        Actor.on(Event.PERSIST_STATE, on_persist_state)

        @crawler.router.default_handler
        async def handle(context: BeautifulSoupCrawlingContext) -> None:
            await context.enqueue_links()
            await context.push_data({"url": context.request.url, "title": context.soup.title.string})
            Actor.log.info(f"DONE {context.request.url}")

        actor_input = await Actor.get_input()
        await crawler.run([actor_input["url"]])


asyncio.run(main())
"""

_JAVASCRIPT_CRAWLER = """
import { Actor, log } from 'apify';
import { CheerioCrawler } from 'crawlee';

await Actor.init();
const { url } = await Actor.getInput();
Actor.on('aborting', () => log.info('EVENT aborting'));
Actor.on('persistState', () => log.info('EVENT persistState'));
const crawler = new CheerioCrawler({
    maxConcurrency: 1,
    async requestHandler({ request, $, enqueueLinks }) {
        await enqueueLinks();
        await Actor.pushData({ url: request.url, title: $('title').text() });
        log.info(`DONE ${request.url}`);
    },
});
await crawler.run([url]);
await Actor.exit();
"""

_BASIC_CRAWLER = """
import { Actor, log } from 'apify';
import { BasicCrawler } from 'crawlee';

await Actor.init();
const { url, pages } = await Actor.getInput();
const crawler = new BasicCrawler({
    async requestHandler({ request, sendRequest }) {
        const { body } = await sendRequest();
        await Actor.pushData({ url: request.url, title: /<title>(.*)<\\/title>/.exec(body)[1] });
        log.info(`DONE ${request.url}`);
    },
});
await crawler.run(Array.from({ length: pages }, (_, n) => `${url}/page/${n}`));
await Actor.exit();
"""


def sample(name: str) -> dict[str, str]:
    root = _SAMPLES / name
    found = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_text() for path in found}


def javascript(code: str) -> dict[str, str]:
    return {
        "Dockerfile": "FROM apify/actor-node:20\nCOPY package*.json ./\n"
        "RUN npm install --omit=dev --omit=optional --no-audit --no-fund\nCOPY . ./\nCMD node main.js\n",
        "package.json": '{"type": "module", "dependencies": {"apify": "3.7.2", "crawlee": "3.18.1"}}',
        "main.js": code,
    }


def abort_in_the_middle(platform: Platform, actor: str, actor_input: Any, marker: str, count: int) -> dict[str, Any]:
    """Start a run, abort it gracefully after ``count`` lines with ``marker``, and return it aborted."""
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=1024", actor_input)

    def done() -> int:
        return sum(marker in line for line in platform.log_lines(run["id"]))

    wait_for(lambda: done() >= count or platform.run(run["id"])["finishedAt"])
    assert platform.call("POST", f"/v2/actor-runs/{run['id']}/abort?gracefully=1")["status"] == "ABORTING", (
        platform.log_lines(run["id"])
    )
    ended = platform.ended(run["id"])
    assert ended["status"] == "ABORTED"
    assert processes_of(run["id"]) == []
    return ended


def resurrected(platform: Platform, run: dict[str, Any]) -> dict[str, Any]:
    platform.call("POST", f"/v2/actor-runs/{run['id']}/resurrect")
    ended = platform.ended(run["id"])
    assert ended["status"] == "SUCCEEDED", platform.log_lines(run["id"])[-30:]
    assert ended["stats"]["resurrectCount"] == 1
    return ended


def items(platform: Platform, run: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = platform.call("GET", f"/v2/datasets/{run['defaultDatasetId']}/items")
    return found


def check_crawl(platform: Platform, actor: str, site: str) -> None:
    run = abort_in_the_middle(platform, actor, {"url": f"{site}/page/0"}, "DONE", 5)
    lines = platform.log_lines(run["id"])
    assert any("EVENT aborting" in line for line in lines)
    assert any("EVENT persistState" in line for line in lines)
    before = len(items(platform, run))
    assert 5 <= before < PAGES
    resurrected(platform, run)
    urls = [item["url"] for item in items(platform, run)]
    assert sorted(urls) == sorted(f"{site}/page/{n}" for n in range(PAGES)), "every page exactly once"
    queue = platform.call("GET", f"/v2/request-queues/{run['defaultRequestQueueId']}")
    assert (queue["totalRequestCount"], queue["handledRequestCount"]) == (PAGES, PAGES)


@pytest.mark.parametrize("name", ["python-counter", pytest.param("javascript-counter", marks=pytest.mark.node)])
def test_the_samples_continue_where_they_stopped(platform: Platform, name: str) -> None:
    actor = platform.build_actor(name, sample(name))
    run = abort_in_the_middle(platform, actor, {"count": 25, "delayMillis": 40}, "Item", 5)
    before = [item["number"] for item in items(platform, run)]
    assert before == list(range(1, len(before) + 1))
    assert 5 <= len(before) < 25
    done = resurrected(platform, run)
    assert [item["number"] for item in items(platform, run)] == list(range(1, 26))
    assert done["statusMessage"] == "All 25 items done"
    assert any(f"Continuing after item {len(before)}" in line for line in platform.log_lines(run["id"]))


def test_a_python_crawl_is_aborted_and_goes_on(platform: Platform, site: str) -> None:
    files = {
        "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
        'COPY . ./\nCMD ["python", "main.py"]\n',
        "requirements.txt": "apify>=4.1,<5\ncrawlee[beautifulsoup]>=1.11,<2\n",
        "main.py": _PYTHON_CRAWLER,
    }
    check_crawl(platform, platform.build_actor("python-crawler", files), site)


@pytest.mark.node
def test_a_javascript_crawl_is_aborted_and_goes_on(platform: Platform, site: str) -> None:
    check_crawl(platform, platform.build_actor("cheerio-crawler", javascript(_JAVASCRIPT_CRAWLER)), site)


@pytest.mark.node
def test_a_basic_crawler_runs(platform: Platform, site: str) -> None:
    actor = platform.build_actor("basic-crawler", javascript(_BASIC_CRAWLER))
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=1024", {"url": site, "pages": 10})
    assert platform.ended(run["id"])["status"] == "SUCCEEDED", platform.log_lines(run["id"])
    assert sorted(item["title"] for item in items(platform, run)) == sorted(f"Page {n}" for n in range(10))
