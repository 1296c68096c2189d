"""A server's share in an attempt: starts one, prints its handle, and waits to be killed.

Arguments: the runtime's root, the spec as JSON, and ``started`` or ``checkpoint``: when to print.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from actorium.runtimes import Handle, RunSpec
from actorium.runtimes.process import ProcessRuntime


async def main(root: str, spec: str, moment: str) -> None:
    runtime = ProcessRuntime(Path(root))
    await runtime.open()

    async def checkpoint(handle: Handle) -> None:
        if moment == "checkpoint":
            print(msgspec.json.encode(handle).decode(), flush=True)
            await asyncio.Event().wait()

    handle = await runtime.start(msgspec.json.decode(spec, type=RunSpec), checkpoint)
    print(msgspec.json.encode(handle).decode(), flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
