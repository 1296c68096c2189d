"""What callers may do beyond what is theirs: the one place that decides for runs with limited permissions.

A call passes two gates. The operation must be one a limited run has any business with (``check_call``); all others
are refused before they do anything. Then each resource is checked where it is found: runs here, storages in
``domain/storages.py: check_access``, which asks the same ``Scope``. docs: runs, section 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actorium.domain.errors import ApiError, ErrorType
from actorium.domain.models import Actor, Run
from actorium.domain.permissions import PermissionLevel, chosen_storages, resolved_level
from actorium.domain.storages import Access, StorageKind, check_access, parse_reference
from actorium.services.access import SERVER_TOKEN_ID, Principal
from actorium.storage import permission_approvals, storages
from actorium.storage.db import Tx

LIMITED_OPERATIONS = frozenset(
    {
        "users_me_get",
        "user_get",
        "actorium_health_get",
        "tools_browser_info_get",
        "tools_browser_info_post",
        "tools_browser_info_put",
        "tools_browser_info_delete",
        "tools_encode_and_sign_post",
        "tools_decode_and_verify_post",
        "datasets_post",
        "keyValueStores_post",
        "requestQueues_post",
        "actorRun_get",
        "actorRun_put",
        "actorRun_abort_post",
        "actorRun_reboot_post",
        "actorRun_metamorph_post",
        "PostChargeRun",
        "actorRun_log_get",
        "log_get",
        "actors_runs_post",
        "actor_runSync_post",
        "actor_runSync_get",
        "actor_runSyncGetDatasetItems_post",
        "actor_runSyncGetDatasetItems_get",
    }
)
"""Operations of a limited run besides those on one storage."""

_ONE_STORAGE = tuple(
    prefix + kind for prefix in ("", "actorRun_") for kind in ("dataset_", "keyValueStore_", "requestQueue_")
)
"""How the ids of operations on one storage begin, by its id and as the default one of a run."""

_KINDS = {
    "dataset": StorageKind.DATASET,
    "keyValueStore": StorageKind.KEY_VALUE_STORE,
    "requestQueue": StorageKind.REQUEST_QUEUE,
}


USER_OPERATIONS = frozenset(
    {
        "actorium_tokens_get",
        "actorium_tokens_post",
        "actorium_token_delete",
        "actorium_token_rotate_post",
        "actorium_auditLog_get",
        "actorium_session_delete",
    }
)
"""Operations of users themselves: a run that could make tokens would have rights beyond its end."""


def insufficient(what: str) -> ApiError:
    """403 ``insufficient-permissions``."""
    return ApiError(ErrorType.INSUFFICIENT_PERMISSIONS, f"Insufficient permissions: {what}")


def check_call(principal: Principal, operation_id: str) -> None:
    """Refuse operations that runs, above all those with limited permissions, have no business with."""
    if operation_id in USER_OPERATIONS and (principal.run_id is not None or principal.token_id == SERVER_TOKEN_ID):
        raise insufficient("this operation is open to users only, not to runs.")
    if principal.scope is None or operation_id in LIMITED_OPERATIONS or operation_id.startswith(_ONE_STORAGE):
        return
    raise insufficient("this operation is not open to runs with limited permissions.")


def check_reads_run(principal: Principal, run: Run) -> None:
    """Refuse a run of the caller's user that is neither the limited run itself nor one it has started."""
    if principal.scope is not None and not principal.scope.may_read_run(run.id, run.parent_run_id):
        raise insufficient("a run with limited permissions may read itself and runs it has started.")


def check_changes_run(principal: Principal, run: Run) -> None:
    """Refuse any run but the limited run itself."""
    if principal.scope is not None and principal.scope.run_id != run.id:
        raise insufficient("a run with limited permissions may change only itself.")


def check_reads_build(principal: Principal) -> None:
    """Refuse a limited run a build that not everybody may read."""
    if principal.scope is not None:
        raise insufficient("a run with limited permissions may read only builds of public Actors.")


async def check_start(
    tx: Tx, principal: Principal, actor: Actor, level: PermissionLevel, approval_url: str | None
) -> None:
    """Refuse a start that would give a run more than its starter has, or than its user has agreed to.

    ``approval_url`` is where users agree to give others' Actors full permissions; ``None``: nobody has to.
    """
    if level is PermissionLevel.LIMITED:
        return
    if principal.scope is not None:
        raise insufficient("a run with limited permissions may start only Actors with limited permissions.")
    if approval_url is None or principal.owns(actor.user_id) or principal.run_id is not None:
        return
    if not await permission_approvals.is_approved(tx, principal.user_id, actor.id):
        raise ApiError(
            ErrorType.FULL_PERMISSION_ACTOR_NOT_APPROVED,
            "This Actor asks for full permissions: its runs could do all that you can. Approve it first, or start it "
            "with forcePermissionLevel=LIMITED_PERMISSIONS.",
            {"approvalUrl": approval_url},
        )


def level_after_metamorph(run: Run, target: Actor) -> PermissionLevel:
    """The level of a run that becomes one of ``target``: never more than before.

    Raises 403 where a limited run would become one of an Actor with full permissions.
    """
    level = resolved_level(None, target.default_run_options, target.fields.get("actorPermissionLevel"))
    if level is PermissionLevel.FULL and run.permission_level is PermissionLevel.LIMITED:
        raise insufficient("a run with limited permissions may only metamorph into Actors with limited permissions.")
    return level


async def grants_of(
    tx: Tx, principal: Principal, level: PermissionLevel, input_schema: str | None, values: Mapping[str, Any]
) -> dict[str, bool]:
    """The storages an input hands to a limited run, by id, and whether for writing; never more than its giver has."""
    grants: dict[str, bool] = {}
    if level is PermissionLevel.FULL:
        return grants
    for chosen in chosen_storages(input_schema, values):
        kind = _KINDS.get(chosen.resource_type)
        if kind is None:
            continue
        texts = [chosen.reference] if "~" in chosen.reference else [chosen.reference, f"~{chosen.reference}"]
        for text in texts:
            found = await _granted(tx, principal, kind, text, to_change=chosen.to_change)
            if found is not None:
                storage_id, may_change = found
                grants[storage_id] = grants.get(storage_id, False) or may_change
                break
    return grants


def merged_grants(old: dict[str, bool], new: dict[str, bool]) -> dict[str, bool]:
    """What a run reaches that had ``old`` grants and gets ``new`` ones."""
    return {storage_id: old.get(storage_id, False) or new.get(storage_id, False) for storage_id in {**old, **new}}


async def _granted(
    tx: Tx, principal: Principal, kind: StorageKind, text: str, *, to_change: bool
) -> tuple[str, bool] | None:
    try:
        reference = parse_reference(text, principal.user_id, principal.username)
    except ApiError:
        return None
    storage = await storages.find(tx, kind, reference)
    for access in (Access.WRITE, Access.READ) if to_change else (Access.READ,):
        try:
            found = check_access(
                storage,
                kind=kind,
                reference=reference,
                access=access,
                user_id=principal.user_id,
                scope=principal.scope,
                signed=False,
            )
        except ApiError:
            continue
        return found.id, access is Access.WRITE
    return None
