"""The rules themselves: types, errors, state machines, formulas. Pure: no I/O, no asyncio, no clock reads."""
