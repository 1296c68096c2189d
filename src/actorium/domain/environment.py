"""The environment variables a run's process gets. Source: docs: actors/development/programming_interface."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actorium.domain.models import Run
from actorium.domain.pricing import cpu_cores


class Surroundings(msgspec.Struct, frozen=True):
    """What the variables tell of everything around a run.

    ``input_keys`` are the variables with which secret inputs are opened.
    ``api_base_url`` is as the process reaches it, ``public_base_url`` as users do; both without ``/v2``.
    """

    api_base_url: str
    public_base_url: str
    events_url: str
    token: str
    username: str
    actor_name: str
    permission_level: str
    build_tags: tuple[str, ...]
    web_server_port: int
    web_server_url: str
    standby_url: str
    started_at: str
    timeout_at: str | None
    input_keys: Mapping[str, str] = {}


def run_environment(run: Run, around: Surroundings, version_env: dict[str, str]) -> dict[str, str]:
    """The whole environment: the version's own variables below the platform's, which they cannot override.

    Variables without a value are left out: empty text crashes the Python SDK.
    """
    platform: dict[str, str | None] = {
        "APIFY_IS_AT_HOME": "1",
        "ACTOR_BUILD_TAGS": ",".join(around.build_tags) or None,
        "ACTOR_FULL_NAME": f"{around.username}/{around.actor_name}",
        "ACTOR_STORAGES_JSON": msgspec.json.encode(run.storage_ids).decode(),
        "APIFY_DEDICATED_CPUS": f"{cpu_cores(run.options.memory_mbytes):g}",
        "ACTOR_MAX_PAID_DATASET_ITEMS": _text(run.options.max_items),
        "ACTOR_MAX_TOTAL_CHARGE_USD": _plain(run.options.max_total_charge_usd),
        "ACTOR_PERMISSION_LEVEL": around.permission_level,
        "ACTOR_RESTART_ON_ERROR": "1" if run.options.restart_on_error else None,
        "APIFY_TOKEN": around.token,
        "APIFY_USER_ID": run.user_id,
        "APIFY_USER_IS_PAYING": "1",
        "APIFY_API_BASE_URL": around.api_base_url,
        # The command line inside a run knows the server by this name only.
        "APIFY_CLIENT_BASE_URL": around.api_base_url,
        "APIFY_API_PUBLIC_BASE_URL": around.public_base_url,
        "APIFY_META_ORIGIN": run.meta.origin,
        "APIFY_WORKFLOW_KEY": run.workflow_key,
        "APIFY_HEADLESS": "1",
        "APIFY_ACT_ID": run.actor_id,
        "APIFY_ACT_RUN_ID": run.id,
        "APIFY_ACTOR_EVENTS_WS_URL": around.events_url,
        "ACTOR_EVENTS_WEBSOCKET_URL": around.events_url,
        "ACTOR_STANDBY_PORT": str(around.web_server_port),
        "APIFY_CONTAINER_PORT": str(around.web_server_port),
        "ACTOR_WEB_SERVER_PORT": str(around.web_server_port),
        "APIFY_CONTAINER_URL": around.web_server_url,
        "ACTOR_WEB_SERVER_URL": around.web_server_url,
        "ACTOR_STANDBY_URL": around.standby_url,
        **around.input_keys,
    }
    # Both names of a pair get the same text: the SDKs prefer opposite ones.
    for name, value in {
        "ACTOR_ID": run.actor_id,
        "ACTOR_RUN_ID": run.id,
        "ACTOR_TASK_ID": run.task_id,
        "ACTOR_BUILD_ID": run.build_id,
        "ACTOR_BUILD_NUMBER": run.build_number,
    }.items():
        platform[name] = platform[f"APIFY_{name}"] = value
    for name, value in {
        "DEFAULT_DATASET_ID": run.default_dataset_id,
        "DEFAULT_KEY_VALUE_STORE_ID": run.default_key_value_store_id,
        "DEFAULT_REQUEST_QUEUE_ID": run.default_request_queue_id,
        "INPUT_KEY": run.input_key,
        "MEMORY_MBYTES": str(run.options.memory_mbytes),
        "STARTED_AT": around.started_at,
        "TIMEOUT_AT": around.timeout_at,
    }.items():
        platform[f"ACTOR_{name}"] = platform[f"APIFY_{name}"] = value
    return {**version_env, **{name: value for name, value in platform.items() if value is not None}}


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _plain(number: float | None) -> str | None:
    return None if number is None else f"{number:.10f}".rstrip("0").rstrip(".")
