"""A process whose files may not grow beyond a limit for a while, as on a full disk. Argument: log folder."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from actorium.storage.logs import LogStore

JOB = "run1"
AT_MS = 1_788_167_605_123


async def main(root: Path) -> None:
    store = LogStore(root)
    store.open(JOB)
    await store.append(JOB, AT_MS, b"before\n", position="a:7")
    assert await store.checkpoint(JOB) == "a:7"

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (await store.size(JOB) + 10, hard))
    for number in range(50):
        await store.append(JOB, AT_MS, b"lost %d\n" % number, position=f"a:{number}")
    await store.platform_line(JOB, AT_MS, "ACTOR: lost as well")
    assert await store.size(JOB) == 32

    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.append(JOB, AT_MS, b"after\n", position="a:99")
    await store.finish(JOB)
    await store.stop()


asyncio.run(main(Path(sys.argv[1])))
