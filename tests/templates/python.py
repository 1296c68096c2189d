"""Actors of the Python shapes: Dockerfiles with the official templates' steps, programs of our own."""

from __future__ import annotations

_PIPI = (
    'RUN echo "Python version:" && python --version && echo "Pip version:" && pip --version '
    '&& echo "Installing dependencies:" && pip install -r requirements.txt '
    '&& echo "All installed Python packages:" && pip freeze\n'
)
APIFY = "apify ~= 4.0\n"


def python(
    main: str,
    requirements: str,
    *,
    image: str = "actor-python:3.14",
    user: bool = False,
    install: str = _PIPI,
    owned: str = "--chown=myuser:myuser ",
    more: dict[str, str] | None = None,
) -> dict[str, str]:
    """Requirements, then the sources, compiled; ``python -m my_actor``."""
    dockerfile = (
        f"FROM apify/{image}\n{'USER myuser' if user else '# as root'}\nCOPY {owned}requirements.txt ./\n{install}"
        f'COPY {owned}. ./\nRUN python -m compileall -q my_actor/\nCMD ["python", "-m", "my_actor"]\n'
    )
    return {
        ".actor/Dockerfile": dockerfile,
        ".dockerignore": ".venv\nbuild/\ndist/\n__pycache__\nstorage\n",
        "requirements.txt": requirements,
        "my_actor/__init__.py": '"""An Actor."""\n',
        "my_actor/__main__.py": main,
        **(more or {}),
    }


UV_INSTALL = "RUN pip install uv && uv pip install --system -r requirements.txt && pip freeze\n"


def actor(body: str, imports: str = "") -> str:
    """A program whose ``body`` gives ``answer``, pushed as its only item."""
    indented = "".join(f"        {line}\n" if line else "\n" for line in body.strip("\n").splitlines())
    return (
        f"import asyncio\n\nfrom apify import Actor\n{imports}\n\n"
        f"async def main() -> None:\n    async with Actor:\n{indented}"
        "        await Actor.push_data({'answer': answer})\n\n\nif __name__ == '__main__':\n    asyncio.run(main())\n"
    )


PLAIN = actor(
    """given = await Actor.get_input() or {}
answer = f"Hello {given.get('who', 'nobody')}"
"""
)

SITE = """
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'<html><title>Hello world</title></html>'
        self.send_response(200)
        self.send_header('Content-Type', 'text/html')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


def serve(port: int = 0) -> str:
    server = ThreadingHTTPServer(('127.0.0.1', port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f'http://127.0.0.1:{server.server_port}/'

"""

STANDBY = actor(
    """url = serve(Actor.configuration.web_server_port)
page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=20).read().decode())
answer = page.partition('<title>')[2].partition('</title>')[0]
""",
    "import urllib.request\n" + SITE,
)

BEAUTIFULSOUP = actor(
    """async with httpx.AsyncClient() as client:
    page = await client.get(serve())
answer = BeautifulSoup(page.text, 'html.parser').title.string
""",
    "import httpx\nfrom bs4 import BeautifulSoup\n" + SITE,
)


def crawl(crawler: str, title: str, options: str = "") -> str:
    """A crawl with Crawlee of a page that the Actor serves itself."""
    return actor(
        f"""found = []
crawler = {crawler}({options})

@crawler.router.default_handler
async def handle(context) -> None:
    found.append({title})

await crawler.run([serve()])
answer = found[0]
""",
        f"from crawlee.crawlers import {crawler}\n" + SITE,
    )


SCRAPY = (
    """import asyncio

import scrapy
from apify import Actor
from scrapy.crawler import CrawlerProcess
"""
    + SITE
    + """
found = []


class Titles(scrapy.Spider):
    name = 'titles'

    async def start(self):
        yield scrapy.Request(serve())

    def parse(self, response):
        found.append(response.css('title::text').get())


async def main() -> None:
    async with Actor:
        await Actor.push_data({'answer': found[0]})


if __name__ == '__main__':
    process = CrawlerProcess(settings={'LOG_LEVEL': 'WARNING', 'TELNETCONSOLE_ENABLED': False})
    process.crawl(Titles)
    process.start()
    asyncio.run(main())
"""
)

PLAYWRIGHT = actor(
    """async with async_playwright() as playwright:
    browser = await playwright.chromium.launch(headless=True, args=['--disable-gpu'])
    page = await browser.new_page()
    await page.goto(serve())
    answer = await page.title()
    await browser.close()
""",
    "from playwright.async_api import async_playwright\n" + SITE,
)

SELENIUM = actor(
    """options = webdriver.ChromeOptions()
for flag in ('--headless', '--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'):
    options.add_argument(flag)
driver = webdriver.Chrome(options=options)
driver.get(serve())
answer = driver.title
driver.quit()
""",
    "from selenium import webdriver\n" + SITE,
)

LANGGRAPH = actor(
    """class State(TypedDict):
    answer: str

graph = StateGraph(State)
graph.add_node('greet', lambda state: {'answer': f"Hello {state['answer']}"})
graph.add_edge(START, 'greet')
graph.add_edge('greet', END)
answer = graph.compile().invoke({'answer': 'world'})['answer']
""",
    "from typing_extensions import TypedDict\n\nfrom langgraph.graph import END, START, StateGraph\n",
)

LLAMAINDEX = actor(
    "answer = (await MockLLM().acomplete('Hello world')).text\n", "from llama_index.core.llms import MockLLM\n"
)

_MCP = "server = FastMCP('shape')\n\n\n@server.tool\ndef greet() -> str:\n    return 'Hello world'\n\n"
MCP = actor(
    """async with Client(server) as client:
    answer = (await client.call_tool('greet')).data
""",
    f"from fastmcp import Client, FastMCP\n\n{_MCP}",
)
MCP_PROXY = actor(
    """async with Client(StdioTransport(sys.executable, ['-m', 'my_actor.server'])) as client:
    answer = (await client.call_tool('greet')).data
""",
    "import sys\n\nfrom fastmcp import Client\nfrom fastmcp.client.transports import StdioTransport\n",
)
MCP_CHILD = f"from fastmcp import FastMCP\n\n{_MCP}\nserver.run(show_banner=False)\n"

PYDANTIC_AI = actor(
    "answer = (await Agent(TestModel(custom_output_text='Hello world')).run('Say hello')).output\n",
    "from pydantic_ai import Agent\nfrom pydantic_ai.models.test import TestModel\n",
)

SMOLAGENTS = actor(
    "answer = greet('world')\n",
    '''from smolagents import tool


@tool
def greet(who: str) -> str:
    """Greets.

    Args:
        who: Whom to greet.
    """
    return f'Hello {who}'

''',
)

CREWAI = actor(
    """agent = Agent(role='greeter', goal='greet', backstory='friendly', llm=Fixed(model='fixed'))
task = Task(description='Say hello', expected_output='a greeting', agent=agent)
answer = str(await asyncio.to_thread(Crew(agents=[agent], tasks=[task]).kickoff))
""",
    """import os

os.environ |= {'CREWAI_DISABLE_TELEMETRY': 'true', 'OTEL_SDK_DISABLED': 'true', 'CREWAI_TRACING_ENABLED': 'false'}
from crewai import Agent, BaseLLM, Crew, Task


class Fixed(BaseLLM):
    def call(self, *args, **options):
        return 'Thought: I can give an answer\\nFinal Answer: Hello world'

""",
)


def uv() -> dict[str, str]:
    """uv with mounted project files, as the SDK's guide has it."""
    return {
        ".actor/Dockerfile": "FROM apify/actor-python:3.14\nCOPY --from=ghcr.io/astral-sh/uv:0.12 /uv /uvx /bin/\n"
        "ENV UV_LINK_MODE=copy PATH=/usr/src/app/.venv/bin:$PATH\n"
        "RUN --mount=type=cache,target=/root/.cache/uv --mount=type=bind,source=pyproject.toml,target=pyproject.toml "
        "uv sync --no-install-project --no-dev\nCOPY . ./\nRUN uv sync --no-dev --no-install-project\n"
        'CMD ["uv", "run", "--no-sync", "python", "-m", "my_actor"]\n',
        "pyproject.toml": '[project]\nname = "shape"\nversion = "0.0.1"\nrequires-python = ">=3.11"\n'
        'dependencies = ["apify ~= 4.0"]\n',
        "my_actor/__init__.py": '"""An Actor."""\n',
        "my_actor/__main__.py": PLAIN,
    }
