"""A process that takes a spool into a log as the engine does, to be killed at any moment.

Arguments: log folder, spool file, job id, seed. Prints ``mark N`` after each platform line it made
durable, and ``at N`` after each append.
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from actorium.storage.logs import LogStore


async def main(root: Path, spool: Path, job_id: str, seed: int) -> None:
    rng = random.Random(seed)
    store = LogStore(root, checkpoint_secs=0.002, checkpoint_bytes=100_000)
    position = await store.recover(job_id)
    offset = int(position.partition(":")[2]) if position else 0
    print("recovered", offset, flush=True)
    with spool.open("rb") as file:
        file.seek(offset)
        while data := file.read(rng.choice([1, 100, 5_000, 65_536])):
            offset += len(data)
            await store.append(job_id, 1_788_167_605_123 + offset, data, position=f"attempt:{offset}")
            print("at", offset, flush=True)
            if rng.random() < 0.05:
                mark = f"{seed}-{offset}"
                await store.platform_line(job_id, 1_788_167_605_123 + offset, f"ACTOR: mark {mark}")
                print("mark", mark, flush=True)
    await store.finish(job_id)
    await store.stop()
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
