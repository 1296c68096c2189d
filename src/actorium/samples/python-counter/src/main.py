"""Works through a catalogue item by item; an abort or a move loses nothing and repeats nothing.

Each item is pushed together with its number. The number of finished items is saved when the platform
asks for it; should the process die in between, the dataset itself tells how far it came.
"""

import asyncio
import contextlib

from apify import Actor, Event

STATE = "STATE"


async def main() -> None:
    """Run the Actor."""
    async with Actor:
        actor_input = await Actor.get_input() or {}
        count = int(actor_input.get("count", 50))
        delay_secs = int(actor_input.get("delayMillis", 200)) / 1000
        state = await Actor.get_value(STATE) or {"done": 0}
        dataset = await Actor.open_dataset()
        # A process that was killed may have pushed more than it saved.
        state["done"] = max(state["done"], (await dataset.get_data(limit=1)).total)
        if state["done"]:
            Actor.log.info("Continuing after item %d", state["done"])

        stopping = asyncio.Event()

        async def save() -> None:
            await Actor.set_value(STATE, state)

        async def on_persist_state() -> None:
            await save()

        async def on_aborting() -> None:
            Actor.log.info("Asked to stop: saving after item %d", state["done"])
            stopping.set()

        Actor.on(Event.PERSIST_STATE, on_persist_state)
        Actor.on(Event.ABORTING, on_aborting)

        while state["done"] < count and not stopping.is_set():
            number = state["done"] + 1
            await Actor.push_data({"number": number, "name": f"Item {number}", "square": number * number})
            state["done"] = number
            Actor.log.info("Item %d of %d", number, count)
            if number % 10 == 0:
                await Actor.set_status_message(f"{number} of {count} items done")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), delay_secs)
        await save()
        if not stopping.is_set():
            await Actor.set_status_message(f"All {count} items done", is_terminal=True)
