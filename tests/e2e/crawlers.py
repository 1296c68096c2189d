"""Actors that crawl a whole site, one for each language. The run's input:

- ``url``: where the crawl starts; ``urls``: instead of it, a request list read next to the queue.
- ``queueName``: a named queue instead of the run's own.
- ``withoutLocks``: Crawlee's older queue, which reads the head and locks nothing (JavaScript only).
- ``togetherUrl``: fetched before the crawl, it answers once every run of the crawl has asked.
- ``lockSecs``: how long requests are locked (JavaScript only, the Python SDK has no such option).
- ``unlock``: release what an earlier process of the same run left locked.
- ``concurrency``: pages at once.
"""

from __future__ import annotations

_PYTHON_MAIN = """
import asyncio
import os

import impit
from apify import Actor, Event
from apify.storage_clients import ApifyStorageClient, SmartApifyStorageClient
from crawlee import ConcurrencySettings, service_locator
from crawlee.crawlers import ParselCrawler, ParselCrawlingContext
from crawlee.request_loaders import RequestList

RUN_ID = os.environ['ACTOR_RUN_ID']


async def main(access: str) -> None:
    service_locator.set_storage_client(
        SmartApifyStorageClient(cloud_storage_client=ApifyStorageClient(request_queue_access=access))
    )
    async with Actor:
        actor_input = await Actor.get_input()
        queue = await Actor.open_request_queue(name=actor_input.get('queueName'))
        if actor_input.get('unlock'):
            # The SDK's own client key is the run's id.
            await Actor.apify_client.request_queue(queue.id, client_key=RUN_ID).unlock_requests()
        urls = actor_input.get('urls')
        concurrency = actor_input['concurrency']
        crawler = ParselCrawler(
            request_manager=await RequestList(urls).to_tandem(queue) if urls else queue,
            concurrency_settings=ConcurrencySettings(
                min_concurrency=concurrency, desired_concurrency=concurrency, max_concurrency=concurrency
            ),
        )

        async def on_aborting() -> None:
            crawler.stop()

        Actor.on(Event.ABORTING, on_aborting)

        @crawler.router.default_handler
        async def handle(context: ParselCrawlingContext) -> None:
            await context.enqueue_links()
            await context.push_data({'url': context.request.url})

        if together := actor_input.get('togetherUrl'):
            async with impit.AsyncClient(timeout=120) as client:
                await client.get(together)
        await crawler.run([] if urls else [actor_input['url']])


asyncio.run(main(os.environ['QUEUE_ACCESS']))
"""

_JAVASCRIPT_MAIN = """
import { Actor } from 'apify';
import { CheerioCrawler, RequestList, RequestQueueV1 } from 'crawlee';

await Actor.init();
const { url, urls, queueName, withoutLocks, togetherUrl, lockSecs, unlock, concurrency } = await Actor.getInput();
const requestQueue = await (withoutLocks ? RequestQueueV1.open(queueName) : Actor.openRequestQueue(queueName));
if (unlock) {
    await Actor.apifyClient.requestQueue(requestQueue.id, { clientKey: requestQueue.clientKey }).unlockRequests();
}
const crawler = new CheerioCrawler({
    requestQueue,
    ...(urls && { requestList: await RequestList.open('urls', urls) }),
    minConcurrency: concurrency,
    maxConcurrency: concurrency,
    async requestHandler({ request, $, enqueueLinks }) {
        await enqueueLinks();
        await Actor.pushData({ url: request.url });
    },
});
// The crawler has set what fits its time limit for a page, a minute and more.
if (lockSecs) requestQueue.requestLockSecs = lockSecs;
if (togetherUrl) await fetch(togetherUrl);
await crawler.run(urls ? [] : [url]);
await Actor.exit();
"""


def python_crawler(access: str) -> dict[str, str]:
    """The files of an Actor whose queue access is ``single`` or ``shared``."""
    return {
        "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
        f'COPY . ./\nENV QUEUE_ACCESS={access}\nCMD ["python", "main.py"]\n',
        "requirements.txt": "apify>=4.1,<5\ncrawlee[parsel]>=1.11,<2\n",
        "main.py": _PYTHON_MAIN,
    }


def javascript_crawler() -> dict[str, str]:
    """The files of an Actor that crawls with Cheerio."""
    return {
        "Dockerfile": "FROM apify/actor-node:20\nCOPY package*.json ./\n"
        "RUN npm install --omit=dev --omit=optional --no-audit --no-fund\nCOPY . ./\nCMD node main.js\n",
        "package.json": '{"type": "module", "dependencies": {"apify": "3.7.2", "crawlee": "3.18.1"}}',
        "main.js": _JAVASCRIPT_MAIN,
    }


CRAWLERS = {
    "python-single": python_crawler("single"),
    "python-shared": python_crawler("shared"),
    "javascript": javascript_crawler(),
}
