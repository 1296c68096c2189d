"""A server's share in an attempt: starts one, prints its handle, and waits to be killed.

Arguments: the runtime's root, the specs as JSON, when to print: ``started``, ``checkpoint`` (and go on),
or ``hold`` (print at the checkpoint and stay there), and whether in a prepared interpreter: 0 or 1.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from actorium.runtimes import Handle, RunSpec
from actorium.runtimes.process import ProcessRuntime


async def main(root: str, specs_json: str, moment: str, warm: str) -> None:
    runtime = ProcessRuntime(Path(root), warm_interpreters=int(warm))
    await runtime.open()
    specs = msgspec.json.decode(specs_json, type=list[RunSpec])
    if int(warm):
        assert await runtime.prepare(specs[0].image, {})

    def tell(handle: Handle) -> None:
        print(msgspec.json.encode(handle).decode(), flush=True)

    async def checkpoint(handle: Handle) -> None:
        if moment != "started":
            tell(handle)
        if moment == "hold":
            await asyncio.Event().wait()

    async def start(spec: RunSpec) -> None:
        handle = await runtime.start(spec, checkpoint)
        if moment == "started":
            tell(handle)

    await asyncio.gather(*map(start, specs))
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
