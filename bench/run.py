"""Runs every benchmark, or those named: ``python bench/run.py runs logs``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ALL = ["storages", "storage_scale", "runs", "docker_runs", "runtime_start", "builds", "logs", "standby", "scrapyd_peer"]


def main() -> int:
    for name in sys.argv[1:] or ALL:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, HERE / f"{name}.py"], check=False).returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
