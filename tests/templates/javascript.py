"""Actors of the JavaScript and TypeScript shapes: the official templates' steps, programs of our own."""

from __future__ import annotations

import json
from typing import Any

_NPMLS = "RUN npm ls @crawlee/core apify puppeteer playwright\n"
_NPMI = (
    'RUN npm --quiet set progress=false && npm install --omit=dev --omit=optional && echo "Installed:" '
    "&& (npm list --omit=dev --all || true) && node --version && npm --version && rm -r ~/.npm\n"
)
_NPMDEV = "RUN npm install --include=dev --audit=false\n"
_OWNED = "COPY --chown=myuser:myuser "

APIFY = {"apify": "^3.5.0"}
CRAWLEE = {**APIFY, "crawlee": "^3.15.0"}
PLAYWRIGHT = {**CRAWLEE, "playwright": "1.61.1"}
PUPPETEER = {**CRAWLEE, "puppeteer": "24.43.1"}
_TYPESCRIPT = {"typescript": "~5.9.3", "@types/node": "^24.0.0", "@apify/tsconfig": "^0.1.1"}


def javascript(
    main: str,
    dependencies: dict[str, str],
    *,
    image: str = "actor-node:24",
    check: str = "",
    system: str = "",
    scripts: dict[str, str] | None = None,
) -> dict[str, str]:
    """One stage: dependencies, then the sources. ``check`` is the browser library whose version is compared."""
    manifest = "package*.json Dockerfile ./" if check else "package*.json ./"
    dockerfile = f"FROM apify/{image}\n{system}{_NPMLS}{_OWNED}{manifest}\n"
    dockerfile += f"RUN node check-{check}-version.mjs\n" if check else ""
    dockerfile += f'{_NPMI}{_OWNED}. ./\nCMD ["node", "src/main.js"]\n'
    return {
        ".actor/Dockerfile": dockerfile,
        ".dockerignore": "node_modules\nstorage\n.git\n",
        "package.json": _package(dependencies, {"start": "node src/main.js", **(scripts or {})}),
        "src/main.js": main,
    }


def typescript(
    main: str,
    dependencies: dict[str, str],
    *,
    image: str = "actor-node:24",
    check: str = "",
    home: str = "/usr/src/app",
    more: dict[str, str] | None = None,
    manifest: str = "package*.json",
    scripts: dict[str, str] | None = None,
) -> dict[str, str]:
    """Two stages: compiled with all dependencies in the first, run with the production ones in the second."""
    with_check = f" Dockerfile ./\nRUN node check-{check}-version.mjs\n" if check else " ./\n"
    dockerfile = (
        f"FROM apify/{image} AS builder\n{_NPMLS}{_OWNED}{manifest}{with_check}{_NPMDEV}{_OWNED}. ./\n"
        f"RUN npm run build\nFROM apify/{image}\n{_NPMLS}{_OWNED}{manifest} ./\n{_NPMI}"
        f'COPY --from=builder --chown=myuser:myuser {home}/dist ./dist\n{_OWNED}. ./\nCMD ["node", "dist/main.js"]\n'
    )
    return {
        ".actor/Dockerfile": dockerfile,
        ".dockerignore": "dist\nnode_modules\nstorage\n.git\n",
        "package.json": _package(
            dependencies, {"start": "tsx src/main.ts", "build": "tsc", **(scripts or {})}, _TYPESCRIPT
        ),
        "tsconfig.json": json.dumps(
            {
                "extends": "@apify/tsconfig",
                "compilerOptions": {
                    "module": "NodeNext",
                    "moduleResolution": "NodeNext",
                    "target": "ES2022",
                    "outDir": "dist",
                    "rootDir": "src",
                    "noUnusedLocals": False,
                    "noUnusedParameters": False,
                    "skipLibCheck": True,
                    "lib": ["DOM", "ES2023"],
                },
                "include": ["./src/**/*"],
            }
        ),
        "src/main.ts": main,
        **(more or {}),
    }


def _package(dependencies: dict[str, str], scripts: dict[str, str], development: dict[str, str] | None = None) -> str:
    package: dict[str, Any] = {"name": "shape", "version": "0.0.1", "type": "module", "dependencies": dependencies}
    package["scripts"] = scripts
    if development:
        package["devDependencies"] = development
    return json.dumps(package, indent=4)


PLAIN = """import { Actor } from 'apify';
await Actor.init();
const input = await Actor.getInput();
await Actor.pushData({ answer: `Hello ${input?.who ?? 'nobody'}` });
await Actor.exit();
"""

STANDBY = """import http from 'node:http';
import { Actor } from 'apify';
await Actor.init();
const server = http.createServer((request, response) => response.end('Hello world'));
await new Promise<void>((resolve) => server.listen(Actor.config.get('containerPort'), () => resolve()));
const answer = await (await fetch(`http://127.0.0.1:${Actor.config.get('containerPort')}/`)).text();
await Actor.pushData({ answer });
server.close();
await Actor.exit();
"""
STANDBY_JS = STANDBY.replace("<void>", "")

_SITE = """import http from 'node:http';
const site = http.createServer((request, response) => {
    response.setHeader('content-type', 'text/html');
    response.end('<title>Hello world</title>');
});
await new Promise((resolve) => site.listen(0, '127.0.0.1', () => resolve(undefined)));
const url = `http://127.0.0.1:${(site.address() as any).port}/`;
"""


def crawl(crawler: str, options: str, title: str, *, typed: bool) -> str:
    """A crawl of a page that the Actor serves itself. ``title`` is the expression for the page's title."""
    text = (
        f"import {{ Actor }} from 'apify';\nimport {{ {crawler} }} from 'crawlee';\n{_SITE}"
        f"await Actor.init();\nconst crawler = new {crawler}({{ {options}\n"
        f"    async requestHandler({{ $, page }}: any) {{ await Actor.pushData({{ answer: {title} }}); }},\n}});\n"
        "await crawler.run([url]);\nsite.close();\nawait Actor.exit();\n"
    )
    return text if typed else text.replace("(site.address() as any)", "site.address()").replace(": any", "")


_BROWSER = "launchContext: { launchOptions: { args: ['--disable-gpu', '--no-sandbox'] } },"
CHEERIO = ("CheerioCrawler", "", "$('title').text()")
WITH_PLAYWRIGHT = ("PlaywrightCrawler", _BROWSER, "await page.title()")
WITH_PUPPETEER = ("PuppeteerCrawler", _BROWSER, "await page.title()")
"""Arguments of ``crawl``."""

LANGCHAIN = """import { Actor } from 'apify';
import { FakeListChatModel } from '@langchain/core/utils/testing';
await Actor.init();
const answer = (await new FakeListChatModel({ responses: ['Hello world'] }).invoke('Say hello')).content;
await Actor.pushData({ answer });
await Actor.exit();
"""

LANGGRAPH = """import { Actor } from 'apify';
import { Annotation, END, START, StateGraph } from '@langchain/langgraph';
await Actor.init();
const State = Annotation.Root({ answer: Annotation() });
const graph = new StateGraph(State)
    .addNode('greet', async (state) => ({ answer: `Hello ${state.answer}` }))
    .addEdge(START, 'greet').addEdge('greet', END).compile();
await Actor.pushData({ answer: (await graph.invoke({ answer: 'world' })).answer });
await Actor.exit();
"""

_MCP_SERVER = """import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
const server = new McpServer({ name: 'shape', version: '1.0.0' });
server.registerTool('greet', { description: 'Greets' }, async () => ({
    content: [{ type: 'text' as const, text: 'Hello world' }],
}));
"""
_MCP_CALL = """const client = new Client({ name: 'caller', version: '1.0.0' });
await client.connect(TRANSPORT);
const result: any = await client.callTool({ name: 'greet' });
await Actor.pushData({ answer: result.content[0].text });
await client.close();
await Actor.exit();
"""
_MCP_HEAD = """import { Actor } from 'apify';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
"""
MCP = (
    f"{_MCP_HEAD}import {{ InMemoryTransport }} from '@modelcontextprotocol/sdk/inMemory.js';\n{_MCP_SERVER}"
    "await Actor.init();\nconst [near, far] = InMemoryTransport.createLinkedPair();\nawait server.connect(far);\n"
    + _MCP_CALL.replace("TRANSPORT", "near")
)
MCP_PROXY = (
    f"{_MCP_HEAD}import {{ StdioClientTransport }} from '@modelcontextprotocol/sdk/client/stdio.js';\n"
    "await Actor.init();\n"
    "const child = new StdioClientTransport({ command: process.execPath, args: ['dist/server.js'] });\n"
    + _MCP_CALL.replace("TRANSPORT", "child")
)
MCP_CHILD = (
    f"import {{ StdioServerTransport }} from '@modelcontextprotocol/sdk/server/stdio.js';\n{_MCP_SERVER}"
    "await server.connect(new StdioServerTransport());\n"
)

MASTRA = """import { Actor } from 'apify';
import { createTool } from '@mastra/core/tools';
import { z } from 'zod';
await Actor.init();
const greet: any = createTool({
    id: 'greet',
    description: 'Greets',
    inputSchema: z.object({ who: z.string() }),
    execute: async () => ({ answer: 'Hello world' }),
});
await Actor.pushData({ answer: (await greet.execute({ who: 'world', context: { who: 'world' } }, {})).answer });
await Actor.exit();
"""

BEEAI = """import { Actor } from 'apify';
import { UserMessage } from 'beeai-framework/backend/message';
import { UnconstrainedMemory } from 'beeai-framework/memory/unconstrainedMemory';
await Actor.init();
const memory = new UnconstrainedMemory();
await memory.add(new UserMessage('Hello world'));
await Actor.pushData({ answer: memory.messages[0].text });
await Actor.exit();
"""

PLAYWRIGHT_TEST = {
    "src/main.js": """import { spawnSync } from 'node:child_process';
import { Actor } from 'apify';
await Actor.init();
const done = spawnSync('npx', ['playwright', 'test'], { encoding: 'utf8' });
console.log(done.stdout, done.stderr);
await Actor.pushData({ answer: done.status === 0 ? 'Hello world' : 'The test failed' });
await Actor.exit();
""",
}


def bun() -> dict[str, str]:
    """Bun as package manager and runtime."""
    return {
        ".actor/Dockerfile": 'FROM oven/bun:1.3\nCOPY . ./\nRUN bun install\nCMD ["bun", "run", "start"]\n',
        "package.json": _package(APIFY, {"start": "bun src/main.ts"}),
        "src/main.ts": PLAIN.replace("getInput()", "getInput<any>()"),
    }


def with_manager(manager: str, lock_step: str, package_manager: str | None = None) -> dict[str, str]:
    """Another package manager than npm, as official projects use it."""
    package = {
        "name": "shape",
        "version": "0.0.1",
        "type": "module",
        "dependencies": APIFY,
        **({"packageManager": package_manager} if package_manager else {}),
    }
    return {
        ".actor/Dockerfile": f"FROM apify/actor-node:24\nRUN corepack enable\nCOPY package.json ./\nRUN {manager} "
        f'{lock_step}\nCOPY . ./\nCMD ["node", "src/main.js"]\n',
        "package.json": json.dumps(package, indent=4),
        "src/main.js": PLAIN,
    }
