"""Scopes of API tokens: which rights a token has of what its user owns. docs: integrations/programming/api."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from actorium.domain.errors import invalid

MAX_RESOURCES = 1000
"""Most single resources a scope may name."""


class ResourceKind(StrEnum):
    """What rights are given for. ``ACCOUNT`` is what is no resource: limits and usage."""

    ACTORS = "actors"
    TASKS = "tasks"
    DATASETS = "datasets"
    KEY_VALUE_STORES = "keyValueStores"
    REQUEST_QUEUES = "requestQueues"
    SCHEDULES = "schedules"
    WEBHOOKS = "webhooks"
    ACCOUNT = "account"


class Right(StrEnum):
    """What may be done. ``RUN`` starts an Actor's runs and does with them what can be done with runs."""

    CREATE = "CREATE"
    READ = "READ"
    WRITE = "WRITE"
    RUN = "RUN"
    BUILD = "BUILD"
    VIEW_RUNS = "VIEW_RUNS"


class RunAccess(StrEnum):
    """What the runs may do that a token starts: what their user may, or no more than the token."""

    FULL = "FULL"
    RESTRICTED = "RESTRICTED"


_OF_OWN = (Right.CREATE, Right.READ, Right.WRITE)
RIGHTS: Mapping[ResourceKind, tuple[Right, ...]] = {
    ResourceKind.ACTORS: (Right.READ, Right.RUN, Right.BUILD, Right.VIEW_RUNS),
    ResourceKind.TASKS: (*_OF_OWN, Right.VIEW_RUNS),
    ResourceKind.DATASETS: _OF_OWN,
    ResourceKind.KEY_VALUE_STORES: _OF_OWN,
    ResourceKind.REQUEST_QUEUES: _OF_OWN,
    ResourceKind.SCHEDULES: _OF_OWN,
    ResourceKind.WEBHOOKS: _OF_OWN,
    ResourceKind.ACCOUNT: (Right.READ,),
}
"""The rights there are. No scope lets a token create or change Actors."""


class ResourceGrant(msgspec.Struct, frozen=True):
    """Rights of one resource. ``id`` is its id, in a scope that is not yet resolved also ``~name``."""

    type: ResourceKind
    id: str
    permissions: tuple[Right, ...]


class TokenScope(msgspec.Struct, frozen=True, rename="camel"):
    """The rights of a token: of all resources of a kind (``account``), and of single ones (``resources``).

    What a token creates it may use in every way. ``run_storages``: whether with the right to see runs come their
    default storages.
    """

    account: Mapping[ResourceKind, tuple[Right, ...]] = {}
    resources: tuple[ResourceGrant, ...] = ()
    run_access: RunAccess = RunAccess.FULL
    run_storages: bool = True

    def allows(self, kind: ResourceKind, right: Right, resource_id: str | None = None) -> bool:
        """Whether the scope gives ``right`` of all resources of ``kind``, or of this one."""
        given = set(self.account.get(kind, ()))
        if resource_id is not None:
            for grant in self.resources:
                if grant.type is kind and grant.id == resource_id:
                    given.update(grant.permissions)
        # Whoever may do something with a resource may also look at it.
        return right in given or (right is Right.READ and bool(given - {Right.CREATE}))


class HeldScope(msgspec.Struct, frozen=True):
    """The scope a caller is bound to, and the token it comes from, which has what was created with it."""

    token_id: str
    scope: TokenScope


def parse_scope(value: object) -> TokenScope:
    """A scope as the API takes it. Raises 400 ``invalid-request``."""
    given = _object("scope", value, ("account", "resources", "runAccess", "runStorages"))
    account = {
        _kind("scope.account", kind): _rights(f"scope.account.{kind}", _kind("scope.account", kind), rights)
        for kind, rights in _object("scope.account", given.get("account", {}), tuple(ResourceKind)).items()
    }
    listed = given.get("resources", [])
    if not isinstance(listed, list) or len(listed) > MAX_RESOURCES:
        raise invalid(f"Field scope.resources must be a list of at most {MAX_RESOURCES} objects.")
    run_access = given.get("runAccess", RunAccess.FULL)
    if run_access not in list(RunAccess):
        raise invalid(f"Field scope.runAccess has an invalid value {run_access!r:.100}: it must be FULL or RESTRICTED.")
    run_storages = given.get("runStorages", True)
    if not isinstance(run_storages, bool):
        raise invalid(f"Field scope.runStorages has an invalid value {run_storages!r:.100}: it must be true or false.")
    return TokenScope(
        account, tuple(_grant(index, one) for index, one in enumerate(listed)), RunAccess(run_access), run_storages
    )


def _grant(index: int, value: object) -> ResourceGrant:
    field = f"scope.resources[{index}]"
    given = _object(field, value, ("type", "id", "permissions"))
    kind = _kind(f"{field}.type", given.get("type"))
    if kind is ResourceKind.ACCOUNT:
        raise invalid(f"Field {field}.type must not be account, which is no resource: use scope.account.")
    reference = given.get("id")
    if not isinstance(reference, str) or not 0 < len(reference) <= 200:
        raise invalid(f"Field {field}.id must be an id or a name as ~name, got {reference!r:.100}.")
    rights = _rights(f"{field}.permissions", kind, given.get("permissions"))
    if Right.CREATE in rights:
        raise invalid(f"Field {field}.permissions must not have CREATE: the resource exists. Use scope.account.")
    return ResourceGrant(kind, reference, rights)


def _object(field: str, value: object, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(f"Field {field} must be an object, got {value!r:.100}.")
    for name in value:
        if name not in known:
            raise invalid(f"Field {field} has the unknown member {name!r:.100}; known ones are {', '.join(known)}.")
    return value


def _kind(field: str, value: object) -> ResourceKind:
    if value not in list(ResourceKind):
        raise invalid(
            f"Field {field} has an invalid value {value!r:.100}: it must be one of {', '.join(ResourceKind)}."
        )
    return ResourceKind(str(value))


def _rights(field: str, kind: ResourceKind, value: object) -> tuple[Right, ...]:
    allowed = RIGHTS[kind]
    if not isinstance(value, list) or not all(one in allowed for one in value):
        raise invalid(f"Field {field} must be a list of {', '.join(allowed)}, got {value!r:.100}.")
    return tuple(right for right in allowed if right in value)
