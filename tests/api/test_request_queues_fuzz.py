"""Whatever is sent to a request queue: it is refused with a reason, or every client can read it again."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actorium.domain.json_texts import mend
from actorium.domain.requests import request_id
from api.test_request_queues import ask, data, new_queue
from support.item_model import text_of, values
from support.properties import share
from support.storage_server import StorageServer

_anything = values | st.sampled_from(
    ["GET", "post", "2026-01-01T00:00:00Z", "2025-01-01 12:00:00.123456+00:00", "2026-W01", [], {}, "[]", True]
)
_FIELDS = ["uniqueKey", "url", "method", "retryCount", "userData", "headers", "payload", "loadedUrl", "noRetry",
           "errorMessages", "handledAt", "id", "lockExpiresAt", "lockByClient", "label"]  # fmt: skip
_sent = st.fixed_dictionaries(
    {"uniqueKey": st.just("k") | _anything, "url": st.just("u") | _anything},
    optional=dict.fromkeys(_FIELDS[2:], _anything),
)
# Most of the fields are left out, as a request with many wrong ones is always refused.
_requests = st.tuples(_sent, st.sets(st.sampled_from(_FIELDS[2:]), max_size=2)).map(
    lambda drawn: {name: value for name, value in drawn[0].items() if name in ("uniqueKey", "url") or name in drawn[1]}
)
_bodies = _requests.map(text_of).map(str.encode) | st.binary(max_size=20) | values.map(text_of).map(str.encode)


@share(1.5)
@given(body=_bodies, is_batch=st.booleans(), is_put=st.booleans())
async def test_what_is_accepted_can_be_read_by_the_stock_client(
    server: StorageServer, body: bytes, is_batch: bool, is_put: bool
) -> None:
    queue = await new_queue(server)
    if is_put:
        try:
            path = f"requests/{request_id(json.loads(mend(body))['uniqueKey'])}"
        except (ValueError, TypeError, KeyError, AttributeError):
            path = "requests/none"
        answer = await ask(server, "PUT", f"{queue}/{path}", body)
    elif is_batch:
        answer = await ask(server, "POST", f"{queue}/requests/batch", b"[" + body + b"]")
    else:
        answer = await ask(server, "POST", f"{queue}/requests", body)
    client = server.client().request_queue(queue)
    if answer.status >= 300:
        refusal: dict[str, Any] = json.loads(answer.body)["error"]
        assert answer.status == 400
        assert refusal["message"]
        assert data(await ask(server, "GET", queue))["totalRequestCount"] == 0
        return
    (listed,) = (await client.list_requests()).items
    found = await client.get_request(listed.id)
    assert found is not None
    assert found.unique_key == json.loads(mend(body))["uniqueKey"]
    head = [item.unique_key for item in (await client.list_head()).items]
    assert head == ([] if found.handled_at else [found.unique_key])
    shown = json.loads((await ask(server, "GET", f"{queue}/requests/{listed.id}")).body)["data"]
    assert None not in shown.values()
