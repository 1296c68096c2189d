"""What a run with limited permissions may reach, and how a run gets its level. docs: runs, section 9."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

import msgspec


class PermissionLevel(StrEnum):
    """What the token of a run may do: what its user may, or little more than its own task."""

    LIMITED = "LIMITED_PERMISSIONS"
    FULL = "FULL_PERMISSIONS"


class StorageOrigin(Protocol):
    """Where a storage comes from."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def run_id(self) -> str | None:
        """The run it was made for, with which it lives and dies."""
        ...

    @property
    def maker_actor_id(self) -> str | None:
        """The Actor whose run made it, or whose run it was made for."""
        ...

    @property
    def starter_actor_id(self) -> str | None:
        """The Actor whose run started the run it was made for."""
        ...


class Scope(msgspec.Struct, frozen=True):
    """The reach of a run with limited permissions, within what its user owns.

    ``grants`` are storages its input names, by id, and whether it may change them. ``changeable`` keeps ids of
    storages it was found to be allowed to change: where a storage comes from never changes.
    """

    run_id: str
    actor_id: str
    grants: Mapping[str, bool] = {}
    changeable: set[str] = msgspec.field(default_factory=set)

    def may_read(self, storage: StorageOrigin) -> bool:
        """Own storages and those of its Actor's runs, results of runs those have started, and what the input names."""
        return (
            self.may_change(storage)
            or storage.id in self.grants
            or (storage.run_id is not None and storage.starter_actor_id == self.actor_id)
        )

    def may_change(self, storage: StorageOrigin) -> bool:
        """Own storages and those of its Actor's runs, and what the input names for writing."""
        return (
            storage.run_id == self.run_id
            or storage.maker_actor_id == self.actor_id
            or self.grants.get(storage.id, False)
        )

    def may_read_run(self, run_id: str, parent_run_id: str | None) -> bool:
        """Its own run, and those it has started."""
        return self.run_id in (run_id, parent_run_id)


class ChosenStorage(msgspec.Struct, frozen=True):
    """A storage an input names in a field with a ``resourceType``, and whether the field is for writing."""

    resource_type: str
    reference: str
    to_change: bool


def scope_of(run_id: str, actor_id: str, level: str, grants: Mapping[str, bool]) -> Scope | None:
    """The reach of a run's token; ``None``: everything its user owns."""
    return Scope(run_id, actor_id, grants) if level == PermissionLevel.LIMITED else None


def resolved_level(forced: str | None, default_options: Mapping[str, Any], actor_level: str | None) -> PermissionLevel:
    """The level of a new run: of the call, else of the Actor's run options, else of the Actor."""
    return PermissionLevel(forced or default_options.get("forcePermissionLevel") or actor_level or PermissionLevel.FULL)


def chosen_storages(input_schema: str | None, values: Mapping[str, Any]) -> list[ChosenStorage]:
    """The storages that an input names in fields of its schema with a ``resourceType``."""
    if input_schema is None or not values:
        return []
    properties = msgspec.json.decode(input_schema).get("properties") or {}
    chosen: list[ChosenStorage] = []
    for name, field in properties.items():
        if not isinstance(field, dict) or not isinstance(field.get("resourceType"), str):
            continue
        to_change = "WRITE" in (field.get("resourcePermissions") or ())
        value = values.get(name)
        chosen += [
            ChosenStorage(field["resourceType"], reference, to_change)
            for reference in (value if isinstance(value, list) else [value])
            if isinstance(reference, str) and reference
        ]
    return chosen
