"""Secret fields of inputs: encrypted wherever they are stored, opened by nobody but their run: actors, section 5.7."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from actorium.domain.input_secrets import decrypt
from actorium.storage.db import Tx
from support.checked import CheckedProgram
from support.program import ACTOR_ID
from support.storage_server import Answer

Fields = dict[str, Any]
RUNS = f"/actors/{ACTOR_ID}/runs"
TEXT = {"title": "T", "type": "string", "description": "D", "editor": "textfield", "isSecret": True}
OBJECT = {"title": "O", "type": "object", "description": "D", "editor": "json", "isSecret": True}
LIST = {**OBJECT, "type": "array", "minItems": 1}
SCHEMA: Fields = {
    "title": "T",
    "type": "object",
    "schemaVersion": 1,
    "properties": {
        "word": TEXT,
        "account": OBJECT,
        "list": LIST,
        "open": {"title": "P", "type": "string", "description": "D", "editor": "textfield", "default": "x"},
    },
}
SECRETS = {"word": "s3cret wörd", "account": {"user": "u", "password": "pässword"}, "list": ["one", 2]}


async def use(program: CheckedProgram, schema: Fields) -> None:
    async def op(tx: Tx) -> None:
        await tx.execute("UPDATE builds SET input_schema = ? WHERE actor_id = ?", json.dumps(schema), ACTOR_ID)

    await program.platform.db.write("schema", op)


async def stored_input(program: CheckedProgram, run: Fields) -> Fields:
    answer = await program.send("GET", f"/key-value-stores/{run['defaultKeyValueStoreId']}/records/INPUT")
    found: Fields = json.loads(answer.body)
    return found


async def opened(program: CheckedProgram, values: Fields, who: str = "jane") -> Fields:
    """``values`` with what is encrypted in them decrypted."""
    keys = await program.platform.inputs.keys(program.people[who].user_id, ACTOR_ID)
    return {
        name: decrypt(value, keys) if isinstance(value, str) and value.startswith("ENCRYPTED_") else value
        for name, value in values.items()
    }


async def whole_database(program: CheckedProgram) -> str:
    """Everything in the tables a secret could be in."""

    async def op(tx: Tx) -> str:
        rows: list[Any] = []
        for table in ("runs", "tasks", "records", "input_keys"):
            rows += [tuple(row[key] for key in row.keys()) for row in await tx.fetch(f"SELECT * FROM {table}")]  # noqa: SIM118
        return repr(rows)

    return await program.platform.db.read("everything", op)


def assert_encrypted(stored: Fields) -> None:
    word, account, many = (stored[name].split(":") for name in ("word", "account", "list"))
    assert (word[0], len(word)) == ("ENCRYPTED_VALUE", 3)
    assert (account[0], len(account), len(account[1])) == ("ENCRYPTED_JSON", 4, 10)
    assert (many[0], len(many), len(many[1])) == ("ENCRYPTED_JSON", 4, 10)


async def test_a_run_stores_its_secrets_encrypted(checked: CheckedProgram) -> None:
    await use(checked, SCHEMA)
    run = await checked.ask("POST", RUNS, SECRETS)
    stored = await stored_input(checked, run)
    assert stored["open"] == "x"
    assert_encrypted(stored)
    assert await opened(checked, stored) == {**SECRETS, "open": "x"}
    everything = await whole_database(checked)
    for secret in ("s3cret", "sswor", "PRIVATE KEY"):
        assert secret not in everything
    again = await stored_input(checked, await checked.ask("POST", RUNS, SECRETS))
    assert again["word"] != stored["word"], "every value is sealed with a password of its own"


async def test_nothing_and_what_is_encrypted_stay_as_they_are(checked: CheckedProgram) -> None:
    await use(checked, SCHEMA)
    encrypted = await stored_input(checked, await checked.ask("POST", RUNS, SECRETS))
    assert await stored_input(checked, await checked.ask("POST", RUNS, encrypted)) == encrypted
    empty = {"word": "", "open": "y"}
    assert await stored_input(checked, await checked.ask("POST", RUNS, empty)) == empty
    answer = await checked.send("POST", RUNS, {"account": encrypted["word"]})
    assert (answer.status, refusal(answer)) == (400, "Input is not valid: Field input.account must be object")


def refusal(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["message"])


async def test_a_secret_object_belongs_to_its_schema(checked: CheckedProgram) -> None:
    await use(checked, SCHEMA)
    encrypted = await stored_input(checked, await checked.ask("POST", RUNS, SECRETS))
    words = {**SCHEMA["properties"], "account": {**OBJECT, "title": "Another", "description": "E", "editor": "hidden"}}
    await use(checked, {**SCHEMA, "properties": words})
    assert (await checked.send("POST", RUNS, encrypted)).status == 201, "what people read is no part of it"
    await use(checked, {**SCHEMA, "properties": {**SCHEMA["properties"], "account": {**OBJECT, "minProperties": 1}}})
    answer = await checked.send("POST", RUNS, encrypted)
    assert (answer.status, refusal(answer)) == (
        400,
        "Input is not valid: The field schema.properties.account is a secret field, but its schema has changed. "
        "Please update the value in the input editor.",
    )


async def test_a_task_stores_its_secrets_encrypted(checked: CheckedProgram) -> None:
    await use(checked, SCHEMA)
    task = await checked.ask("POST", "/actor-tasks", {"actId": ACTOR_ID, "name": "secrets", "input": SECRETS})
    assert_encrypted(task["input"])
    stored = await checked.ask("GET", f"/actor-tasks/{task['id']}/input")
    assert await opened(checked, stored) == SECRETS
    run = await checked.ask("POST", f"/actor-tasks/{task['id']}/runs", {"open": "mine"})
    assert await opened(checked, await stored_input(checked, run)) == {**SECRETS, "open": "mine"}
    changed = await checked.ask("PUT", f"/actor-tasks/{task['id']}/input", {"word": "new s3cret"})
    assert changed["account"] == stored["account"]
    assert await opened(checked, changed) == {**SECRETS, "word": "new s3cret"}
    changed = (await checked.ask("PUT", f"/actor-tasks/{task['id']}", {"input": {"word": "third s3cret"}}))["input"]
    assert await opened(checked, changed) == {"word": "third s3cret"}
    assert "s3cret" not in await whole_database(checked)


async def test_keys_are_made_once_for_a_user_and_an_actor(checked: CheckedProgram) -> None:
    await use(checked, SCHEMA)
    runs = await asyncio.gather(*(checked.ask("POST", RUNS, SECRETS) for _ in range(4)))
    for run in runs:
        assert (await opened(checked, await stored_input(checked, run)))["word"] == SECRETS["word"]
    jane, john = (checked.people[name].user_id for name in ("jane", "john"))
    inputs = checked.platform.inputs
    assert await inputs.keys(jane, ACTOR_ID) == await inputs.keys(jane, ACTOR_ID)
    assert await inputs.keys(john, ACTOR_ID) != await inputs.keys(jane, ACTOR_ID)


async def test_validation_stores_nothing(checked: CheckedProgram) -> None:
    await use(checked, SCHEMA)
    before = await whole_database(checked)
    assert (await checked.send("POST", f"/actors/{ACTOR_ID}/validate-input", SECRETS)).status == 200
    assert await whole_database(checked) == before
