"""Native builds through the API: all anew, unchanged, with changed sources; beside ``uv pip install`` and ``npm ci``.

``python bench/builds.py``. Bars: unchanged 2 s, changed sources 4 s. Every package is downloaded before it is measured.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uv
from servers import Server, start_ours

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
REQUIREMENTS = "apify\nhttpx\nbeautifulsoup4\n"
PYTHON = {
    "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt "
    '&& pip freeze\nCOPY . ./\nCMD ["python", "main.py"]\n',
    "requirements.txt": REQUIREMENTS,
    "main.py": "import apify\n",
}
PACKAGE: dict[str, Any] = {
    "name": "bench",
    "type": "module",
    "dependencies": {"apify": "^3.5.0", "crawlee": "^3.15.0"},
}
JAVASCRIPT = {
    "Dockerfile": "FROM apify/actor-node:20\nRUN npm ls @crawlee/core apify puppeteer playwright\n"
    "COPY package*.json ./\nRUN npm install --omit=dev --omit=optional && (npm list --omit=dev --all || true) "
    '&& node --version && npm --version && rm -r ~/.npm\nCOPY . ./\nCMD ["node", "main.js"]\n',
    "package.json": json.dumps(PACKAGE),
    "main.js": "import 'apify';\n",
}
TYPESCRIPT = {
    "Dockerfile": "FROM apify/actor-node:20 AS builder\nCOPY package*.json ./\nRUN npm install --include=dev\n"
    "COPY . ./\nRUN npm run build\nFROM apify/actor-node:20\nCOPY package*.json ./\n"
    "RUN npm install --omit=dev --omit=optional\n"
    'COPY --from=builder /usr/src/app/dist ./dist\nCOPY . ./\nCMD ["node", "dist/main.js"]\n',
    "package.json": json.dumps(
        {
            **PACKAGE,
            "scripts": {"build": "tsc"},
            "devDependencies": {"typescript": "~5.9.3", "@types/node": "^22.0.0"},
        }
    ),
    "tsconfig.json": json.dumps(
        {
            "compilerOptions": {
                "outDir": "dist",
                "rootDir": "src",
                "module": "nodenext",
                "target": "es2022",
                "skipLibCheck": True,
                "lib": ["ES2023", "DOM"],
            },
            "include": ["src"],
        }
    ),
    "src/main.ts": "import { Actor } from 'apify';\nawait Actor.init();\nawait Actor.exit();\n",
}
ACTORS = {
    "Python": (PYTHON, "main.py", "#"),
    "JavaScript": (JAVASCRIPT, "main.js", "//"),
    "TypeScript": (TYPESCRIPT, "src/main.ts", "//"),
}


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


def build(server: Server, actor_id: str, use_cache: bool = True) -> None:
    """One build to its end."""
    found = server.call("POST", f"/v2/actors/{actor_id}/builds?version=0.0&useCache={int(use_cache)}&waitForFinish=60")
    while found["finishedAt"] is None:
        found = server.call("GET", f"/v2/actor-builds/{found['id']}?waitForFinish=60")
    if found["status"] != "SUCCEEDED":
        raise RuntimeError(found["statusMessage"])


def put(server: Server, actor_id: str, files: dict[str, str]) -> None:
    """New sources."""
    sources = [{"name": name, "format": "TEXT", "content": text} for name, text in files.items()]
    body = {"sourceType": "SOURCE_FILES", "sourceFiles": sources, "versionNumber": "0.0"}
    server.call("PUT", f"/v2/actors/{actor_id}/versions/0.0", body)


def measure(server: Server, name: str) -> None:
    """One language."""
    files, source, comment = ACTORS[name]
    actor_id = server.call("POST", "/v2/actors", {"name": f"bench-{name.lower()}"})["id"]
    body = {"versionNumber": "0.0", "sourceType": "SOURCE_FILES", "sourceFiles": []}
    server.call("POST", f"/v2/actors/{actor_id}/versions", body)
    put(server, actor_id, files)
    build(server, actor_id)  # downloads
    first = timed(lambda: build(server, actor_id, use_cache=False))
    put(server, actor_id, files)
    build(server, actor_id)
    unchanged, changed = [], []
    for number in range(ROUNDS):
        unchanged.append(timed(lambda: build(server, actor_id)))
        put(server, actor_id, {**files, source: f"{files[source]}{comment} {number}\n"})
        changed.append(timed(lambda: build(server, actor_id)))
    print(
        f"  {name:12} all anew {first:5.1f} s   unchanged {statistics.median(unchanged):5.2f} s   "
        f"changed sources {statistics.median(changed):5.2f} s",
        flush=True,
    )


def uv_alone(folder: Path) -> float:
    """``uv venv`` and ``uv pip install`` of the same requirements, with everything in uv's cache."""
    folder.mkdir()
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    program = uv.find_uv_bin()

    def install() -> None:
        shutil.rmtree(folder / "venv", ignore_errors=True)
        subprocess.run([program, "venv", "-q", "--python", "3.11", folder / "venv"], check=True)
        command = [program, "pip", "install", "-q", "--compile-bytecode", "--python", folder / "venv/bin/python"]
        subprocess.run([*command, "-r", folder / "requirements.txt"], check=True)

    install()
    return statistics.median(timed(install) for _ in range(ROUNDS))


def npm_alone(folder: Path) -> float:
    """``npm ci --omit=dev`` of the same packages, with everything in npm's cache."""
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps(PACKAGE))
    environment = {**os.environ, "npm_config_cache": str(folder / "cache")}

    def npm(*words: str) -> None:
        subprocess.run(
            ["npm", *words, "--omit=dev", "--omit=optional"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )

    npm("install")
    return statistics.median(timed(lambda: npm("ci", "--prefer-offline")) for _ in range(2))


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    server = start_ours(folder / "ours")
    try:
        for name in ACTORS:
            if name == "Python" or shutil.which("npm"):
                measure(server, name)
        print(f"  uv venv + uv pip install alone   {uv_alone(folder / 'uv'):5.2f} s", flush=True)
        if shutil.which("npm"):
            print(f"  npm ci alone                     {npm_alone(folder / 'npm'):5.2f} s")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
