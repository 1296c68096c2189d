"""The shapes of all official templates, and of official projects with other package managers, as small Actors."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from templates import javascript as js
from templates import python as py

ANSWER = "Hello world"
"""What a run of each pushes as ``answer``, started with the input ``{"who": "world"}``."""


class Shape(msgspec.Struct, frozen=True):
    """One Actor. ``refused`` is the beginning of what the native builder says where it builds none of it."""

    name: str
    files: Callable[[], dict[str, str]]
    refused: str = ""
    browser: bool = False
    official: bool = True
    """Whether a template of this name exists; the others show a package manager."""


def _shape(name: str, files: Callable[[], dict[str, str]], refused: str = "", *, browser: bool = False) -> Shape:
    return Shape(name, files, refused, browser)


_PUPPETEER_IMAGE = "actor-node-puppeteer-chrome:24-24.43.1"
_PLAYWRIGHT_IMAGE = "actor-node-playwright-chrome:24-1.61.1"
_CAMOUFOX_IMAGE = "actor-node-playwright-camoufox:24-1.59.1"
_HOME = "/home/myuser"
_INSTALL_BROWSERS = {"postinstall": "npx crawlee install-playwright-browsers"}
_FETCH_CAMOUFOX = {"postinstall": "npx camoufox-js fetch"}
_NO_CAMOUFOX = ".actor/Dockerfile line 1: FROM needs the browser Camoufox"
_MCP = {**js.APIFY, "@modelcontextprotocol/sdk": "^1.20.0"}
_SYSTEM = "RUN apk add g++ make py3-pip\n"


def _js_crawl(arguments: tuple[str, str, str]) -> str:
    return js.crawl(*arguments, typed=False)


def _ts_crawl(arguments: tuple[str, str, str]) -> str:
    return js.crawl(*arguments, typed=True)


def _cypress() -> dict[str, str]:
    files = js.javascript(js.PLAIN, {**js.APIFY, "cypress": "^15.0.0"})
    return {**files, ".actor/Dockerfile": 'FROM cypress/browsers:node-24.14.0-chrome\nENTRYPOINT [""]\nCOPY . ./\n'}


def _cli_start() -> dict[str, str]:
    dockerfile = (
        "FROM apify/actor-node:24\nRUN apk add jq wget bash curl && curl -fsSL https://example.com/install.sh | sh\n"
        'RUN npm install --global apify-cli\nCOPY . ./\nCMD ["/bin/bash", "main.sh"]\n'
    )
    return {".actor/Dockerfile": dockerfile, "main.sh": 'apify actor push-data \'{"answer": "Hello world"}\'\n'}


def _test_runner() -> dict[str, str]:
    dockerfile = (
        "FROM apify/actor-node-playwright:24-1.61.1\nCOPY --chown=myuser:myuser package*.json Dockerfile ./\n"
        "RUN node check-playwright-version.mjs\nRUN npm --quiet set progress=false && npm install --omit=dev "
        '--omit=optional && rm -r ~/.npm\nCOPY --chown=myuser:myuser . ./\nCMD ["node", "dist/main.js"]\n'
    )
    files = js.typescript(js.PLAIN, js.PLAYWRIGHT)
    return {**files, ".actor/Dockerfile": dockerfile}


JAVASCRIPT = (
    _shape("js-start", lambda: js.javascript(js.PLAIN, js.APIFY)),
    _shape("js-empty", lambda: js.javascript(js.PLAIN, js.APIFY)),
    _shape("js-standby", lambda: js.javascript(js.STANDBY_JS, js.APIFY)),
    _shape("js-crawlee-cheerio", lambda: js.javascript(_js_crawl(js.CHEERIO), js.CRAWLEE)),
    _shape("js-bootstrap-cheerio-crawler", lambda: js.javascript(_js_crawl(js.CHEERIO), js.CRAWLEE)),
    _shape(
        "js-langchain", lambda: js.javascript(js.LANGCHAIN, {**js.APIFY, "@langchain/core": "^1.0.0"}, system=_SYSTEM)
    ),
    _shape(
        "js-langgraph-agent",
        lambda: js.javascript(
            js.LANGGRAPH,
            {**js.APIFY, "@langchain/core": "^1.0.0", "@langchain/langgraph": "^1.0.0"},
            system=_SYSTEM,
        ),
    ),
    _shape(
        "js-crawlee-playwright-chrome",
        lambda: js.javascript(
            _js_crawl(js.WITH_PLAYWRIGHT),
            js.PLAYWRIGHT,
            image=_PLAYWRIGHT_IMAGE,
            check="playwright",
            scripts=_INSTALL_BROWSERS,
        ),
        browser=True,
    ),
    _shape(
        "js-crawlee-playwright-camoufox",
        lambda: js.javascript(
            _js_crawl(js.WITH_PLAYWRIGHT),
            {**js.PLAYWRIGHT, "camoufox-js": "*"},
            image=_CAMOUFOX_IMAGE,
            check="playwright",
            scripts=_FETCH_CAMOUFOX,
        ),
        _NO_CAMOUFOX,
    ),
    _shape(
        "js-crawlee-puppeteer-chrome",
        lambda: js.javascript(_js_crawl(js.WITH_PUPPETEER), js.PUPPETEER, image=_PUPPETEER_IMAGE, check="puppeteer"),
        browser=True,
    ),
    _shape("js-cypress", _cypress, ".actor/Dockerfile line 1: FROM uses the base image cypress/browsers"),
)

TYPESCRIPT = (
    _shape("ts-start", lambda: js.typescript(js.PLAIN.replace("getInput()", "getInput<any>()"), js.APIFY)),
    _shape("ts-empty", lambda: js.typescript(js.PLAIN.replace("getInput()", "getInput<any>()"), js.APIFY)),
    _shape("ts-standby", lambda: js.typescript(js.STANDBY, js.APIFY)),
    _shape("ts-crawlee-cheerio", lambda: js.typescript(_ts_crawl(js.CHEERIO), js.CRAWLEE)),
    _shape("ts-bootstrap-cheerio-crawler", lambda: js.typescript(_ts_crawl(js.CHEERIO), js.CRAWLEE)),
    _shape("ts-mcp-empty", lambda: js.typescript(js.MCP, _MCP)),
    _shape("ts-mcp-proxy", lambda: js.typescript(js.MCP_PROXY, _MCP, more={"src/server.ts": js.MCP_CHILD})),
    _shape("ts-mastraai", lambda: js.typescript(js.MASTRA, {**js.APIFY, "@mastra/core": "^1.0.0", "zod": "^4.0.0"})),
    _shape(
        "ts-beeai-agent",
        lambda: js.typescript(
            js.BEEAI,
            {**js.APIFY, "beeai-framework": "^0.1.0", "zod": "^3.25.0"},
            manifest="package*.json .npmrc",
            more={".npmrc": "legacy-peer-deps=true\n"},
        ),
    ),
    _shape(
        "ts-crawlee-playwright-chrome",
        lambda: js.typescript(
            _ts_crawl(js.WITH_PLAYWRIGHT),
            js.PLAYWRIGHT,
            image=_PLAYWRIGHT_IMAGE,
            check="playwright",
            home=_HOME,
            scripts=_INSTALL_BROWSERS,
        ),
        browser=True,
    ),
    _shape(
        "ts-crawlee-playwright-camoufox",
        lambda: js.typescript(
            _ts_crawl(js.WITH_PLAYWRIGHT),
            js.PLAYWRIGHT,
            image=_CAMOUFOX_IMAGE,
            check="playwright",
            home=_HOME,
            scripts=_FETCH_CAMOUFOX,
        ),
        _NO_CAMOUFOX,
    ),
    _shape(
        "ts-crawlee-puppeteer-chrome",
        lambda: js.typescript(
            _ts_crawl(js.WITH_PUPPETEER), js.PUPPETEER, image=_PUPPETEER_IMAGE, check="puppeteer", home=_HOME
        ),
        browser=True,
    ),
    _shape("ts-playwright-test-runner", _test_runner, "Error: Cannot find module"),
    _shape("ts-start-bun", js.bun),
    _shape("cli-start", _cli_start, ".actor/Dockerfile line 2: RUN uses curl"),
)

_PLAYWRIGHT_PYTHON = "actor-python-playwright:3.14-1.61.0"

PYTHON = (
    _shape("python-start", lambda: py.python(py.PLAIN, py.APIFY)),
    _shape("python-empty", lambda: py.python(py.PLAIN, py.APIFY)),
    _shape("python-standby", lambda: py.python(py.STANDBY, py.APIFY)),
    _shape("python-beautifulsoup", lambda: py.python(py.BEAUTIFULSOUP, py.APIFY + "beautifulsoup4\nhttpx\n")),
    _shape(
        "python-crawlee-beautifulsoup",
        lambda: py.python(
            py.crawl("BeautifulSoupCrawler", "context.soup.title.string"), py.APIFY + "crawlee[beautifulsoup]\n"
        ),
    ),
    _shape(
        "python-crawlee-parsel",
        lambda: py.python(
            py.crawl("ParselCrawler", "context.selector.css('title::text').get()"), py.APIFY + "crawlee[parsel]\n"
        ),
    ),
    _shape("python-scrapy", lambda: py.python(py.SCRAPY, "apify[scrapy] ~= 4.0\nscrapy >= 2.14\n")),
    _shape("python-langgraph", lambda: py.python(py.LANGGRAPH, py.APIFY + "langgraph ~= 1.0\n")),
    _shape("python-llamaindex-agent", lambda: py.python(py.LLAMAINDEX, py.APIFY + "llama-index-core ~= 0.14\n")),
    _shape("python-mcp-empty", lambda: py.python(py.MCP, py.APIFY + "fastmcp\n")),
    _shape(
        "python-mcp-proxy",
        lambda: py.python(py.MCP_PROXY, py.APIFY + "fastmcp\n", more={"my_actor/server.py": py.MCP_CHILD}),
    ),
    _shape("python-pydanticai", lambda: py.python(py.PYDANTIC_AI, py.APIFY + "pydantic-ai-slim\n")),
    _shape("python-smolagents", lambda: py.python(py.SMOLAGENTS, py.APIFY + "smolagents\n")),
    _shape(
        "python-crewai",
        lambda: py.python(py.CREWAI, py.APIFY + "crewai\n", image="actor-python:3.13", install=py.UV_INSTALL),
    ),
    _shape(
        "python-playwright",
        lambda: py.python(py.PLAYWRIGHT, py.APIFY + "playwright == 1.61.0\n", image=_PLAYWRIGHT_PYTHON, user=True),
        browser=True,
    ),
    _shape(
        "python-crawlee-playwright",
        lambda: py.python(
            py.crawl("PlaywrightCrawler", "await context.page.title()", "headless=True"),
            py.APIFY + "crawlee[playwright]\nplaywright == 1.61.0\n",
            image=_PLAYWRIGHT_PYTHON,
            user=True,
        ),
        browser=True,
    ),
    _shape(
        "python-crawlee-playwright-camoufox",
        lambda: py.python(py.PLAYWRIGHT, py.APIFY + "camoufox\n", image="actor-python-playwright-camoufox:3.14-1.61.0"),
        _NO_CAMOUFOX,
    ),
    _shape(
        "python-selenium",
        lambda: py.python(py.SELENIUM, py.APIFY + "selenium\n", image="actor-python-selenium:3.14", owned=""),
        browser=True,
    ),
)

MANAGERS = (
    Shape("python with uv sync", py.uv, official=False),
    Shape("js with pnpm", lambda: js.with_manager("pnpm", "install --prod"), official=False),
    Shape("js with Yarn 1", lambda: js.with_manager("yarn", "install --production"), official=False),
    Shape("js with Yarn 4", lambda: js.with_manager("yarn", "install", "yarn@4.9.1"), official=False),
)

SHAPES = (*JAVASCRIPT, *TYPESCRIPT, *PYTHON, *MANAGERS)
