"""Secret inputs in a run: the variables it gets, and what its log does not show: runs, section 5."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from actorium.domain.inputs import RunInput
from actorium.domain.models import Meta, Run
from actorium.services.run_options import StartOptions
from actorium.storage.db import Tx
from engine.conftest import BOB, Engine

KEY, PASSPHRASE = (f"APIFY_INPUT_SECRETS_PRIVATE_KEY_{name}" for name in ("FILE", "PASSPHRASE"))
FIELD = {"title": "T", "description": "D", "editor": "json", "isSecret": True}
PROPERTIES = {
    "word": {**FIELD, "type": "string", "editor": "textfield"},
    "account": {**FIELD, "type": "object"},
    "open": {"title": "T", "description": "D", "type": "string", "editor": "textfield"},
}


async def start(engine: Engine, properties: dict[str, Any] = PROPERTIES, **values: object) -> Run:
    schema = {"title": "T", "type": "object", "schemaVersion": 1, "properties": properties}

    async def op(tx: Tx) -> None:
        await tx.execute("UPDATE builds SET input_schema = ? WHERE actor_id = ?", json.dumps(schema), engine.actor.id)

    await engine.db.write("schema", op)
    body = RunInput(json.dumps(values).encode(), "application/json")
    return await engine.starts.start(BOB, engine.actor.id, StartOptions(), body, Meta("API"))


async def test_a_run_with_secrets_gets_the_private_key(engine: Engine) -> None:
    process = await engine.process_of(await start(engine, word="hidden word"))
    env = process.spec.env
    pem = base64.b64decode(env[KEY])
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert load_pem_private_key(pem, env[PASSPHRASE].encode()).key_size == 2048


async def test_other_runs_get_no_key(engine: Engine) -> None:
    process = await engine.process_of(await start(engine, open="x"))
    assert not {KEY, PASSPHRASE} & process.spec.env.keys(), "there is none yet"
    await start(engine, word="hidden word")
    plain = {"open": PROPERTIES["open"]}
    process = await engine.process_of(await start(engine, plain, open="x"))
    assert not {KEY, PASSPHRASE} & process.spec.env.keys(), "the schema has no secrets"


async def test_the_log_shows_no_secrets(engine: Engine) -> None:
    run = await start(engine, word="hidden word", account={"user": "me", "keys": ["deep secret"]}, open="seen")
    process = await engine.process_of(run)
    passphrase = process.spec.env[PASSPHRASE]
    engine.runtime.write(process, f"hidden word, deep secret, me, seen, {passphrase}\n".encode())
    await engine.restart()
    engine.runtime.write(process, b"again hidden word\n")
    engine.runtime.end(process, code=0)
    await engine.ended(run)
    log = await engine.log(run)
    assert ", me, seen, " in log
    for secret in ("hidden word", "deep secret", passphrase):
        assert secret not in log
