"""The three storage kinds: their metadata, names, references, and who may read them."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from actorium.domain.errors import ApiError, ErrorType, invalid
from actorium.domain.models import GeneralAccess
from actorium.domain.permissions import Scope
from actorium.domain.times import DAY_MS

_ID = re.compile(r"[a-zA-Z0-9]{17}")
_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")


class StorageKind(StrEnum):
    """A storage type; the value is the API's noun in error messages."""

    DATASET = "dataset"
    KEY_VALUE_STORE = "key-value store"
    REQUEST_QUEUE = "request queue"

    @property
    def heading(self) -> str:
        """The noun at the start of a sentence."""
        return self.value[0].upper() + self.value[1:]


class Access(StrEnum):
    """What a caller wants to do with a storage."""

    READ = "read"
    WRITE = "write"


class Storage(msgspec.Struct, frozen=True):
    """Metadata of one storage. ``counters`` holds the kind's own numbers by column name (``item_count``, ...).

    ``url_signing_secret_key``, ``schema`` and ``fields`` are ``None`` for kinds without them. ``maker_actor_id`` is
    the Actor whose run made it or was given it, ``starter_actor_id`` the one whose run started that run.
    """

    kind: StorageKind
    id: str
    user_id: str
    username: str
    name: str | None
    title: str | None
    actor_id: str | None
    run_id: str | None
    created_at: int
    modified_at: int
    accessed_at: int
    general_access: str
    counters: dict[str, int]
    url_signing_secret_key: str | None = None
    schema: dict[str, Any] | None = None
    fields: list[str] | None = None
    maker_actor_id: str | None = None
    starter_actor_id: str | None = None


def expires_at(storage: Storage, unnamed_days: int) -> int | None:
    """When a storage expires if nobody uses it; ``None`` for one that is kept. ``unnamed_days`` 0 keeps all.

    Only storages without a name that no run made expire; those of a run live as long as the run.
    """
    if not unnamed_days or storage.name is not None or storage.run_id is not None:
        return None
    return storage.accessed_at + unnamed_days * DAY_MS


class Guarded(msgspec.Struct, frozen=True):
    """What access to a storage depends on, for calls that need no more of its metadata."""

    id: str
    user_id: str
    general_access: str
    url_signing_secret_key: str | None
    run_id: str | None
    maker_actor_id: str | None
    starter_actor_id: str | None


_S = TypeVar("_S", Storage, Guarded)


class Reference(msgspec.Struct, frozen=True):
    """How a caller points at a storage: by ``id``, or by ``name_key`` of an owner (``owner_id`` or ``owner_name``)."""

    text: str
    id: str | None = None
    name_key: str | None = None
    owner_id: str | None = None
    owner_name: str | None = None

    @property
    def by_name(self) -> bool:
        """Whether the storage is named, not identified."""
        return self.id is None

    @property
    def lane(self) -> str:
        """What calls on the same storage have in common, for taking turns."""
        return self.id or f"{self.owner_id or self.owner_name}~{self.name_key}"


class StorageSchemas(msgspec.Struct, frozen=True):
    """What an Actor's definition says of its runs' storages: a schema, or none, for each dataset by its alias."""

    datasets: dict[str, dict[str, Any] | None]
    key_value_store: dict[str, Any] | None

    @classmethod
    def of(cls, actor_definition: dict[str, Any] | None) -> StorageSchemas:
        """The storages of a build's resolved ``actor.json``. docs: actor.json, storages."""
        given: dict[str, Any] = (actor_definition or {}).get("storages") or {}
        datasets = {"default": given.get("dataset"), **(given.get("datasets") or {})}
        return cls(datasets, given.get("keyValueStore"))


class DefaultStorageIds(msgspec.Struct, frozen=True):
    """The storages every run starts with; ``aliased_datasets`` are those its Actor defines besides the default."""

    dataset: str
    key_value_store: str
    request_queue: str
    aliased_datasets: dict[str, str] = {}

    def of(self, kind: StorageKind) -> str:
        """The id of the default storage of ``kind``."""
        match kind:
            case StorageKind.DATASET:
                return self.dataset
            case StorageKind.KEY_VALUE_STORE:
                return self.key_value_store
            case StorageKind.REQUEST_QUEUE:
                return self.request_queue

    def by_alias(self) -> dict[str, dict[str, str]]:
        """All of them as runs show them. openapi: Run.storageIds."""
        return {
            "datasets": {"default": self.dataset, **self.aliased_datasets},
            "keyValueStores": {"default": self.key_value_store},
            "requestQueues": {"default": self.request_queue},
        }


def name_key(name: str) -> str:
    """What makes a name unique: names differ by more than case."""
    return name.lower()


def check_name(name: object) -> str:
    """``name`` if it may name a storage, else 400 ``invalid-value``."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ApiError(
        ErrorType.INVALID_VALUE,
        "Invalid value provided in name: name can only contain letters 'a' through 'z', the digits '0' through '9', "
        "and the hyphen ('-') but only in the middle of the string (e.g. 'my-value-1'), at most 63 characters",
    )


def parse_reference(text: str, user_id: str | None, username: str | None) -> Reference:
    """Read ``id``, ``~name``, ``username~name`` or ``userId~name``; ``/`` separates too and is looked for first.

    ``user_id`` and ``username`` are the caller's (``None`` when anonymous): names of the caller's own
    come back with ``owner_id``. Raises 400 ``invalid-request`` for an empty name, 401 for ``~name`` without a token.
    """
    separator = "/" if "/" in text else "~"
    owner, found, name = text.partition(separator)
    if not found:
        return Reference(text, id=text)
    if not name:
        raise invalid("Resource name parameter cannot be empty")
    key = name_key(name)
    if not owner:
        if user_id is None:
            raise ApiError(ErrorType.TOKEN_NOT_PROVIDED, "Authentication token was not provided.")
        return Reference(text, name_key=key, owner_id=user_id)
    if user_id is not None and (owner == user_id or (username is not None and owner.lower() == username.lower())):
        return Reference(text, name_key=key, owner_id=user_id)
    if _ID.fullmatch(owner):
        return Reference(text, name_key=key, owner_id=owner)
    return Reference(text, name_key=key, owner_name=owner.lower())


def missing(kind: StorageKind, reference: Reference) -> ApiError:
    """404 ``record-not-found``; hints at ``~name`` when a bare name stands where an id should."""
    hint = ""
    if reference.id is not None and not _ID.fullmatch(reference.id):
        hint = f" (a storage is addressed by its id, or by name as ~{reference.id[:63]})"
    return ApiError(ErrorType.RECORD_NOT_FOUND, f"{kind.heading} was not found{hint}")


def check_access(
    storage: _S | None,
    *,
    kind: StorageKind,
    reference: Reference,
    access: Access,
    user_id: str | None,
    scope: Scope | None,
    signed: bool,
) -> _S:
    """``storage`` if the caller ``user_id`` (``None``: anonymous) may have ``access``; raises 403 or 404.

    Another user's storage does not exist for a caller who may not read it; an anonymous reader, and one who may read
    but wants to change it, is told to come with another token (docs: general-resource-access). ``signed`` is a valid
    signature for this read. ``scope`` bounds what the caller may reach of the user's own.
    """
    if storage is None:
        raise missing(kind, reference)
    is_own = user_id is not None and storage.user_id == user_id
    if is_own and (scope is None or (scope.may_read(storage) if access is Access.READ else scope.may_change(storage))):
        return storage
    general = storage.general_access
    is_open = general == GeneralAccess.ANYONE_WITH_NAME_CAN_READ or (
        general == GeneralAccess.ANYONE_WITH_ID_CAN_READ and not reference.by_name
    )
    if access is Access.READ and (signed or is_open):
        return storage
    if is_own:
        raise ApiError(
            ErrorType.INSUFFICIENT_PERMISSIONS,
            f"Insufficient permissions for the {kind}: the run has limited permissions, and may {access} only storages "
            "of its own, of runs of its Actor, and those its input names in a field with a resourceType.",
        )
    if is_open or user_id is None:
        raise ApiError(
            ErrorType.INSUFFICIENT_PERMISSIONS,
            f"Insufficient permissions for the {kind}. Make sure you're passing a correct API token "
            "and that it has the required permissions.",
        )
    raise missing(kind, reference)
