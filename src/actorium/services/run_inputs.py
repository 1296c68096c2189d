"""Inputs of runs and tasks: held against the build's input schema, with their secret fields encrypted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from actorium.domain.input_schemas.validation import has_secrets
from actorium.domain.input_secrets import InputKeys, locked_keys, new_input_keys
from actorium.domain.inputs import CheckedInput, RunInput, complete_input, encrypted_fields, encrypted_input, masks
from actorium.domain.models import Build
from actorium.domain.secrets import Vault
from actorium.kit import Clock
from actorium.storage import input_keys
from actorium.storage.db import Database, Tx
from actorium.storage.input_keys import StoredKeys

_MAX_INLINE_BYTES = 64 * 1024
"""Larger inputs are checked on another thread: the event loop has other things to do."""


class ReadyInput(msgspec.Struct, frozen=True):
    """What a run is given: the record to store (``None`` = none), and the values it was made of, not encrypted.

    ``sealed_secrets`` is what the run's log must not show, sealed (``runs.sealed_secrets``).
    """

    stored: RunInput | None
    values: dict[str, Any]
    sealed_secrets: str | None


NO_INPUT = ReadyInput(None, {}, None)
"""That of a run that is given none at all."""


class RunInputs:
    """Makes inputs ready for their runs."""

    def __init__(self, db: Database, clock: Clock, vault: Vault) -> None:
        self._db = db
        self._clock = clock
        self._vault = vault

    async def prepare(self, user_id: str, actor_id: str, build: Build, body: RunInput | None) -> ReadyInput:
        """The input of a run of ``build`` that ``user_id`` starts. Raises 400 as ``complete_input`` does."""
        checked = await self.check(build, body)
        if checked.schema is None or not any(checked.values.get(name) for name in checked.schema.secret_fields):
            return ReadyInput(checked.stored, checked.values, None)
        keys = await self.keys(user_id, actor_id)
        stored = await asyncio.to_thread(encrypted_input, checked, keys) if checked.secrets else checked.stored
        texts = await asyncio.to_thread(masks, checked, keys)
        sealed = self._vault.seal(msgspec.json.encode(texts).decode()) if texts else None
        return ReadyInput(stored, checked.values, sealed)

    async def check(self, build: Build, body: RunInput | None) -> CheckedInput:
        """Hold an input against the schema of ``build``, and nothing more. Raises 400 as ``complete_input`` does."""
        if body is None or len(body.data) <= _MAX_INLINE_BYTES:
            return complete_input(build.input_schema, body)
        return await asyncio.to_thread(complete_input, build.input_schema, body)

    async def encryption(
        self, user_id: str, actor_id: str, build: Build | None
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """What makes a task's input what is stored of it: every secret field of the build's schema encrypted."""
        schema_json = build.input_schema if build is not None else None
        if schema_json is None or not has_secrets(schema_json):
            return lambda values: values
        keys = await self.keys(user_id, actor_id)
        return lambda values: encrypted_fields(schema_json, values, keys)

    async def keys(self, user_id: str, actor_id: str) -> InputKeys:
        """The key pair of a user for an Actor; made when it is asked for first. docs: secret_input."""

        async def find(tx: Tx) -> StoredKeys | None:
            return await input_keys.get(tx, user_id, actor_id)

        stored = await self._db.read("get input keys", find)
        if stored is None:
            made = await asyncio.to_thread(new_input_keys)
            sealed = StoredKeys(made.public_key, self._vault.seal(msgspec.json.encode(made).decode()))

            async def keep(tx: Tx) -> StoredKeys:
                return await input_keys.insert_first(tx, user_id, actor_id, sealed, self._clock.now_ms())

            stored = await self._db.write("make input keys", keep)
        return locked_keys(self._vault.open(stored.sealed))
