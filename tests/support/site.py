"""A site to crawl, in a process of its own: many pages, each found many times, every fetch counted.

Page ``n`` of ``/{crawl}/page/{n}`` links to ``2n + 1`` and ``2n + 2``, which leads from page 0 to every page, and to
six others. ``/{crawl}/hits`` tells how often each page was fetched; ``/{crawl}/together/{runs}`` answers once so many
have asked; ``/{crawl}/hold`` stops the pages from answering until ``/{crawl}/release``, and ``/{crawl}/held`` tells
which ones wait.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections import Counter, defaultdict
from typing import Any

_OTHERS = (3, 7, 31, 127, 509, 1021)
_END = b"\r\n\r\n"


class Site:
    """The site's process, with ``pages`` pages in each crawl."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        # It ends by itself when this process is gone, because its standard input then closes.
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(pages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def page(self, crawl: str, number: int) -> str:
        return f"{self.url}/{crawl}/page/{number}"

    def all_pages(self, crawl: str) -> list[str]:
        return sorted(self.page(crawl, number) for number in range(self.pages))

    def hits(self, crawl: str) -> dict[str, int]:
        """How often each page was fetched, by its address."""
        found: dict[str, int] = self._get(f"/{crawl}/hits")
        return {self.page(crawl, int(number)): count for number, count in found.items()}

    def hold(self, crawl: str) -> None:
        """Leave fetched pages without an answer from now on."""
        self._get(f"/{crawl}/hold")

    def held(self, crawl: str) -> list[str]:
        """The fetches that wait for an answer, by their page's address."""
        return [self.page(crawl, number) for number in self._get(f"/{crawl}/held")]

    def release(self, crawl: str) -> None:
        """Answer everything that waits, and everything to come."""
        self._get(f"/{crawl}/release")

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.loads(answer.read())

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()


class _Crawl:
    def __init__(self) -> None:
        self.hits: Counter[int] = Counter()
        self.held: list[int] = []
        self.waiting = 0
        self.together = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()


async def _answer(crawls: dict[str, _Crawl], pages: int, path: str) -> tuple[int, str, str]:
    """Status, content type and body."""
    match path.strip("/").split("/"):
        case [name, "page", number] if int(number) < pages:
            crawl, page = crawls[name], int(number)
            crawl.hits[page] += 1
            if not crawl.open.is_set():
                crawl.held.append(page)
                await crawl.open.wait()
                crawl.held.remove(page)
            found = [n for n in (2 * page + 1, 2 * page + 2) if n < pages]
            found += [(page * factor + factor) % pages for factor in _OTHERS]
            links = "".join(f'<a href="/{name}/page/{n}">{n}</a>' for n in found)
            return 200, "text/html", f"<html><head><title>Page {page}</title></head><body>{links}</body></html>"
        case [name, "hits"]:
            return 200, "application/json", json.dumps(crawls[name].hits)
        case [name, "held"]:
            return 200, "application/json", json.dumps(crawls[name].held)
        case [name, "hold"]:
            crawls[name].open.clear()
            return 200, "application/json", "{}"
        case [name, "release"]:
            crawls[name].open.set()
            return 200, "application/json", "{}"
        case [name, "together", runs]:
            crawl = crawls[name]
            crawl.waiting += 1
            if crawl.waiting >= int(runs):
                crawl.together.set()
            await crawl.together.wait()
            return 200, "application/json", "{}"
    return 404, "text/html", "<html><body>There is no such page.</body></html>"


async def _serve(pages: int) -> None:
    crawls: dict[str, _Crawl] = defaultdict(_Crawl)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(_END)
                path = request.split(b" ", 2)[1].decode().partition("?")[0]
                status, kind, text = await _answer(crawls, pages, path)
                body = text.encode()
                head = f"HTTP/1.1 {status} OK\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {len(body)}"
                writer.write(head.encode() + _END + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    parent = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(parent), sys.stdin)
    await parent.read()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
