"""POST run until the first line of a Python Actor with the SDK: with a prepared interpreter and without, in turns.

``python bench/warm_starts.py``
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from pathlib import Path

from servers import start_ours

from runs import build, first_line, millis

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "20"))
FILES = {
    "Dockerfile": "FROM apify/actor-python:3.11\nCOPY . ./\nRUN pip install -r requirements.txt\n"
    'CMD ["python", "main.py"]\n',
    "requirements.txt": "apify\n",
    "main.py": "import time\nfrom apify import Actor\nprint(time.time_ns(), flush=True)\n",
}


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="actorium-bench-"))
    servers = [start_ours(folder / count, warm_interpreters=count) for count in ("2", "0")]
    try:
        actors = [build(server, "sdk", FILES) for server in servers]
        took: list[list[float]] = [[], []]
        for number in range(ROUNDS + 1):
            for values, server, actor in zip(took, servers, actors, strict=True):
                secs = first_line(server, actor)
                if number:  # the first one prepares
                    values.append(secs)
        for title, values in zip(("prepared interpreter", "its own interpreter"), took, strict=True):
            print(f"  {title:24} {millis(values)}")
        print(f"  ratio {statistics.median(took[0]) / statistics.median(took[1]):.3f}")
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
