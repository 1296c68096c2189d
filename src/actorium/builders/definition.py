"""What ``.actor/`` says: actor.json and the files it refers to. docs: actor_definition."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyjson5

from actorium.builders import BuildFailed
from actorium.domain.dataset_schemas import check_schema as check_dataset_schema
from actorium.domain.errors import ApiError
from actorium.domain.input_schemas.schema_checks import InputSchemaError, check_input_schema
from actorium.domain.memory_expressions import MemoryExpressionError, compile_memory
from actorium.domain.pricing import MAX_MEMORY_MBYTES, MIN_MEMORY_MBYTES
from actorium.domain.store_schemas import check_store_schema

MAX_SCHEMA_BYTES = 500 * 1024
_ANYWHERE = ("dockerfile", "dockerContextDir")
_DATASET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,100}")


PATH_ARGUMENT = "ACTOR_PATH_IN_DOCKER_CONTEXT"
"""The build argument that holds ``Definition.actor_path``."""


class Definition(msgspec.Struct, frozen=True):
    """What a build keeps of an Actor's definition; ``dockerfile`` is a path, ``None`` = none was found.

    ``actor_path`` leads from the context to the Actor's folder; empty where they are the same.
    """

    actor_definition: dict[str, Any] | None
    input_schema: str | None
    readme: str | None
    changelog: str | None
    dockerfile: Path | None
    context: Path
    actor_path: str
    warnings: tuple[str, ...]


def read_definition(root: Path, sources: Path | None = None) -> Definition:
    """Read everything below ``root``, the Actor's folder in ``sources`` (the same unless said). Raises ``BuildFailed``.

    Dockerfile and context may be anywhere in the sources, as in a repository of several Actors.
    """
    return _Reader(root, sources or root).read()


class _Reader:
    def __init__(self, root: Path, sources: Path) -> None:
        self.root = root
        self.sources = sources
        self.folder = root / ".actor"
        self.warnings: list[str] = []

    def read(self) -> Definition:
        definition = self._actor_json()
        fields = definition or {}
        _check_memory(fields)
        schema = self._input_schema(fields)
        readme = self._text(fields.get("readme"), [".actor/README.md", "README.md"])
        changelog = self._text(fields.get("changelog"), [".actor/CHANGELOG.md", "CHANGELOG.md"])
        resolved = None if definition is None else self._resolved(definition, schema, readme, changelog)
        context = self.root
        if isinstance(fields.get("dockerContextDir"), str):
            context = self._path(fields["dockerContextDir"], "dockerContextDir")
        return Definition(
            actor_definition=resolved,
            input_schema=None if schema is None else json.dumps(schema, ensure_ascii=False),
            readme=readme,
            changelog=changelog,
            dockerfile=self._dockerfile(fields),
            context=context,
            actor_path=self._path_in(context),
            warnings=tuple(self.warnings),
        )

    def _path_in(self, context: Path) -> str:
        folder, outer = self.root.resolve(), context.resolve()
        path = folder.relative_to(outer).as_posix() if folder.is_relative_to(outer) else ""
        return "" if path == "." else path

    def _actor_json(self) -> dict[str, Any] | None:
        path = self.folder / "actor.json"
        if not path.is_file():
            return None
        return self._json_object(path, ".actor/actor.json")

    def _json_object(self, path: Path, name: str) -> dict[str, Any]:
        try:
            value = pyjson5.decode(path.read_text("utf-8"))
        except (pyjson5.Json5Exception, UnicodeDecodeError, RecursionError) as error:
            raise BuildFailed(f"Could not parse {name}: {error}") from error
        if not isinstance(value, dict):
            raise BuildFailed(f"Could not parse {name}: it must be a JSON object.")
        return value

    def _path(self, reference: str, field: str) -> Path:
        """The file a field of actor.json names, relative to ``.actor``."""
        path = (self.folder / reference).resolve()
        bounds = self.sources if field in _ANYWHERE else self.root
        if Path(reference).is_absolute() or not path.is_relative_to(bounds.resolve()):
            raise BuildFailed(f"{field} in .actor/actor.json: {reference} points outside the Actor root directory.")
        return path

    def _find(self, name: str) -> Path | None:
        """A file below the root, in any case of letters, the exact one first."""
        exact = self.root / name
        if exact.is_file():
            return exact
        folder = exact.parent
        if folder.is_dir():
            for entry in sorted(folder.iterdir()):
                if entry.is_file() and entry.name.lower() == exact.name.lower():
                    return entry
        return None

    def _referenced(self, reference: object, field: str) -> Path | None:
        if not isinstance(reference, str):
            return None
        path = self._path(reference, field)
        if path.is_file():
            return path
        self.warnings.append(f"{field} in .actor/actor.json: {reference} does not exist.")
        return None

    def _text(self, reference: object, defaults: list[str]) -> str | None:
        path = self._referenced(reference, "readme")
        for name in defaults:
            path = path or self._find(name)
        return path.read_text("utf-8", "replace") if path is not None else None

    def _input_schema(self, fields: dict[str, Any]) -> dict[str, Any] | None:
        given = fields.get("input", fields.get("inputSchema"))
        schema: dict[str, Any] | None
        if isinstance(given, dict):
            schema = given
        else:
            path = self._referenced(given, "input")
            path = path or self._find(".actor/INPUT_SCHEMA.json") or self._find("INPUT_SCHEMA.json")
            if path is None:
                return None
            if path.stat().st_size > MAX_SCHEMA_BYTES:
                raise BuildFailed(f"Input schema is not valid (it is larger than {MAX_SCHEMA_BYTES} bytes).")
            schema = self._json_object(
                path,
                path.relative_to(
                    self.root.resolve() if path.is_relative_to(self.root.resolve()) else self.root
                ).as_posix(),
            )
        try:
            self.warnings += check_input_schema(schema)
        except InputSchemaError as error:
            raise BuildFailed(str(error)) from error
        return schema

    def _resolved(
        self, definition: dict[str, Any], schema: dict[str, Any] | None, readme: str | None, changelog: str | None
    ) -> dict[str, Any]:
        resolved = {key: value for key, value in definition.items() if key not in ("inputSchema", "outputSchema")}
        texts = {"input": schema, "readme": readme, "changelog": changelog}
        resolved |= {key: value for key, value in texts.items() if value is not None}
        output = definition.get("output", definition.get("outputSchema"))
        if output is not None:
            resolved["output"] = self._object_or_file(output, "output")
        if "webServerSchema" in definition:
            resolved["webServerSchema"] = self._web_server_schema(definition["webServerSchema"])
        if isinstance(definition.get("storages"), dict):
            resolved["storages"] = self._storages(definition["storages"])
        return resolved

    def _object_or_file(self, value: object, field: str) -> dict[str, Any] | None:
        if isinstance(value, dict):
            return value
        path = self._referenced(value, field)
        return None if path is None else self._json_object(path, field)

    def _web_server_schema(self, value: object) -> dict[str, Any] | None:
        schema = self._object_or_file(value, "webServerSchema")
        if schema is not None and not str(schema.get("openapi")).startswith("3."):
            raise BuildFailed("webServerSchema in .actor/actor.json must be an OpenAPI document of version 3.")
        return schema

    def _storages(self, storages: dict[str, Any]) -> dict[str, Any]:
        unknown = storages.keys() - {"keyValueStore", "dataset", "datasets"}
        if unknown or ("dataset" in storages and "datasets" in storages):
            raise BuildFailed(
                "storages in .actor/actor.json may have keyValueStore and either dataset or datasets, nothing else."
            )
        resolved: dict[str, Any] = {}
        for key in ("keyValueStore", "dataset"):
            if key in storages:
                resolved[key] = self._object_or_file(storages[key], f"storages.{key}")
        if isinstance(datasets := storages.get("datasets"), dict):
            names = list(datasets)
            if not 1 <= len(names) <= 10 or "default" not in names or not all(map(_DATASET_NAME.fullmatch, names)):
                raise BuildFailed(
                    "storages.datasets in .actor/actor.json must have 1 to 10 entries, 'default' among them, with "
                    "names of letters, digits and '_'."
                )
            resolved["datasets"] = {
                name: self._object_or_file(value, f"storages.datasets.{name}") for name, value in datasets.items()
            }
        for schema in (resolved.get("dataset"), *resolved.get("datasets", {}).values()):
            if schema is not None:
                self._check(check_dataset_schema, schema)
        if (store_schema := resolved.get("keyValueStore")) is not None:
            self._check(check_store_schema, store_schema)
        return resolved

    @staticmethod
    def _check(check: Callable[[dict[str, Any]], None], schema: dict[str, Any]) -> None:
        try:
            check(schema)
        except ApiError as error:
            raise BuildFailed(error.message) from error

    def _dockerfile(self, fields: dict[str, Any]) -> Path | None:
        path = self._referenced(fields.get("dockerfile"), "dockerfile")
        for candidate in (self.folder / "Dockerfile", self.root / "Dockerfile"):
            if path is None and candidate.is_file():
                path = candidate
        return path


def _check_memory(fields: dict[str, Any]) -> None:
    for name in ("minMemoryMbytes", "maxMemoryMbytes", "defaultMemoryMbytes"):
        value = fields.get(name)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if name == "defaultMemoryMbytes" and isinstance(value, str):
            try:
                compile_memory(value)
            except MemoryExpressionError as error:
                raise BuildFailed(f"{name} in .actor/actor.json is not a valid expression: {error}.") from error
        elif value is not None and not (is_number and MIN_MEMORY_MBYTES <= value <= MAX_MEMORY_MBYTES):
            or_text = ", or an expression" if name == "defaultMemoryMbytes" else ""
            raise BuildFailed(
                f"{name} in .actor/actor.json must be a whole number from {MIN_MEMORY_MBYTES} to {MAX_MEMORY_MBYTES}"
                f"{or_text}, but is {str(value)[:100]}."
            )
