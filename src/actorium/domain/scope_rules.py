"""Which right each operation needs of a token with a scope, and how its call names what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

import msgspec

from actorium.domain.storages import StorageKind
from actorium.domain.token_scopes import ResourceKind, Right

_K, _R = ResourceKind, Right


class Names(Enum):
    """What the path of a call names."""

    NOTHING = auto()
    ACTOR = auto()
    TASK = auto()
    RUN = auto()
    RUN_TO_RENEW = auto()
    LAST_OF_ACTOR = auto()
    LAST_OF_TASK = auto()
    BUILD = auto()
    RUN_OR_BUILD = auto()
    SCHEDULE = auto()
    WEBHOOK = auto()
    DISPATCH = auto()
    STORAGE = auto()
    STORAGE_OF_RUN = auto()
    STORAGE_OF_LAST_OF_ACTOR = auto()
    STORAGE_OF_LAST_OF_TASK = auto()


class Rule(msgspec.Struct, frozen=True):
    """What a call needs: ``right`` of what it ``names``, or with ``NOTHING`` of all of ``kind``."""

    kind: ResourceKind
    right: Right
    names: Names = Names.NOTHING


OPEN = frozenset(
    {
        "users_me_get",
        "user_get",
        "store_get",
        "actorium_health_get",
        "actorium_signIn_get",
        "actorium_signIn_oidc_get",
        "actorium_signIn_callback_get",
        "actorium_signIn_header_post",
        "tools_browser_info_get",
        "tools_browser_info_post",
        "tools_browser_info_put",
        "tools_browser_info_delete",
        "tools_encode_and_sign_post",
        "tools_decode_and_verify_post",
    }
)
"""Operations that are about nothing of anybody's."""


def _rules(kind: ResourceKind, names: Names, rights: Mapping[Right, str]) -> dict[str, Rule]:
    return {one: Rule(kind, right, names) for right, operations in rights.items() for one in operations.split()}


RULES: Mapping[str, Rule] = {
    **_rules(
        _K.ACTORS,
        Names.NOTHING,
        {
            _R.READ: "actors_get actorBuilds_get",
            _R.VIEW_RUNS: "actorRuns_get",
            _R.RUN: "actorium_runs_abort_post",
        },
    ),
    **_rules(
        _K.ACTORS,
        Names.ACTOR,
        {
            _R.READ: "actor_get actor_versions_get actor_version_get actor_version_envVars_get "
            "actor_version_envVar_get actors_builds_get actor_build_default_get actor_validateInput_post",
            _R.BUILD: "actors_builds_post",
            _R.RUN: "actors_runs_post actor_runSync_post actor_runSync_get actor_runSyncGetDatasetItems_post "
            "actor_runSyncGetDatasetItems_get",
            _R.VIEW_RUNS: "actors_runs_get",
        },
    ),
    **_rules(
        _K.ACTORS,
        Names.RUN,
        {
            _R.VIEW_RUNS: "actorRun_get actorRun_log_get actors_run_get",
            _R.RUN: "actorRun_put actorRun_delete actorRun_abort_post actorRun_reboot_post actors_run_abort_post "
            "PostChargeRun actorium_run_migrate_post",
        },
    ),
    **_rules(
        _K.ACTORS,
        Names.RUN_TO_RENEW,
        {_R.RUN: "PostResurrectRun actor_run_resurrect_post actorRun_metamorph_post actors_run_metamorph_post"},
    ),
    **_rules(
        _K.ACTORS,
        Names.LAST_OF_ACTOR,
        {
            _R.VIEW_RUNS: "actor_runs_last_get actor_runs_last_log_get",
            _R.RUN: "actor_runs_last_abort_post actor_runs_last_reboot_post",
        },
    ),
    **_rules(
        _K.ACTORS,
        Names.LAST_OF_TASK,
        {
            _R.VIEW_RUNS: "actorTask_runs_last_get actorTask_last_log_get",
            _R.RUN: "actorTask_runs_last_abort_post actorTask_runs_last_reboot_post",
        },
    ),
    **_rules(
        _K.ACTORS,
        Names.BUILD,
        {
            _R.READ: "actorBuild_get actorBuild_log_get actors_build_get actorBuild_openapi_json_get "
            "actor_openapi_json_get",
            _R.BUILD: "actorBuild_delete actorBuild_abort_post actors_build_abort_post",
        },
    ),
    "log_get": Rule(_K.ACTORS, _R.VIEW_RUNS, Names.RUN_OR_BUILD),
    **_rules(_K.TASKS, Names.NOTHING, {_R.READ: "actorTasks_get", _R.CREATE: "actorTasks_post"}),
    **_rules(
        _K.TASKS,
        Names.TASK,
        {
            _R.READ: "actorTask_get actorTask_input_get",
            _R.WRITE: "actorTask_put actorTask_delete actorTask_input_put",
            _R.VIEW_RUNS: "actorTask_runs_get",
        },
    ),
    **_rules(
        _K.ACTORS,
        Names.TASK,
        {
            _R.RUN: "actorTask_runs_post actorTask_runSync_post actorTask_runSync_get "
            "actorTask_runSyncGetDatasetItems_post actorTask_runSyncGetDatasetItems_get",
        },
    ),
    **_rules(_K.SCHEDULES, Names.NOTHING, {_R.READ: "schedules_get", _R.CREATE: "schedules_post"}),
    **_rules(
        _K.SCHEDULES,
        Names.SCHEDULE,
        {
            _R.READ: "schedule_get schedule_log_get",
            _R.WRITE: "schedule_put schedule_delete schedule_invoke_post",
        },
    ),
    **_rules(_K.WEBHOOKS, Names.NOTHING, {_R.READ: "webhooks_get webhookDispatches_get", _R.CREATE: "webhooks_post"}),
    **_rules(_K.WEBHOOKS, Names.ACTOR, {_R.READ: "actor_webhooks_get"}),
    **_rules(_K.WEBHOOKS, Names.TASK, {_R.READ: "actorTask_webhooks_get"}),
    **_rules(
        _K.WEBHOOKS,
        Names.WEBHOOK,
        {
            _R.READ: "webhook_get webhook_webhookDispatches_get",
            _R.WRITE: "webhook_put webhook_delete webhook_test_post",
        },
    ),
    "webhookDispatch_get": Rule(_K.WEBHOOKS, _R.READ, Names.DISPATCH),
    **_rules(_K.ACCOUNT, Names.NOTHING, {_R.READ: "users_me_limits_get users_me_usage_monthly_get"}),
    **{
        operation: Rule(kind, right)
        for kind in (_K.DATASETS, _K.KEY_VALUE_STORES, _K.REQUEST_QUEUES)
        for operation, right in ((f"{kind}_get", _R.READ), (f"{kind}_post", _R.CREATE))
    },
}
"""The rules of all operations but ``OPEN`` ones and those on one storage (see ``rule_of``)."""

_STORAGES = {
    "dataset": (_K.DATASETS, StorageKind.DATASET, "datasetId"),
    "keyValueStore": (_K.KEY_VALUE_STORES, StorageKind.KEY_VALUE_STORE, "storeId"),
    "requestQueue": (_K.REQUEST_QUEUES, StorageKind.REQUEST_QUEUE, "queueId"),
}
_STORAGE_PREFIXES = {
    "": Names.STORAGE,
    "actorRun_": Names.STORAGE_OF_RUN,
    "actor_runs_last_": Names.STORAGE_OF_LAST_OF_ACTOR,
    "actorTask_runs_last_": Names.STORAGE_OF_LAST_OF_TASK,
}
STORAGE_OF_KIND = {kind: (storage, parameter) for kind, storage, parameter in _STORAGES.values()}
"""The storages of a kind of resources, and the path's parameter that names one."""


def rule_of(operation_id: str) -> Rule | None:
    """What an operation needs; ``None``: it is not open to tokens with a scope."""
    rule = RULES.get(operation_id)
    if rule is not None:
        return rule
    for prefix, names in _STORAGE_PREFIXES.items():
        if not operation_id.startswith(prefix):
            continue
        found = _STORAGES.get(operation_id.removeprefix(prefix).partition("_")[0])
        if found is not None:
            return Rule(found[0], _R.READ if operation_id.endswith(("_get", "_head")) else _R.WRITE, names)
    return None
