"""Which tasks may be public, and how they are to be shown. docs: actors, section 6; client-python TaskPublicConfig."""

from __future__ import annotations

from typing import Any

import msgspec

from actorium.domain.actors import check_length
from actorium.domain.errors import ApiError, ErrorType, refused
from actorium.domain.models import Actor, Build, Task

MAX_PUBLIC_TASKS = 50
"""Of one Actor."""

_MAX_TEXTS = {"seoTitle": 60, "seoDescription": 160, "datasetName": None, "datasetView": None, "categorization": None}
_DEFAULT_DATASET = "default"


def check_public_config(given: object) -> dict[str, Any] | None:
    """``publicConfig`` as far as it is the caller's to set; ``None`` clears it. Raises 400 ``schema-validation``."""
    if given is None:
        return None
    if not isinstance(given, dict):
        raise refused("Field publicConfig must be an object.")
    config: dict[str, Any] = {}
    for key, most in _MAX_TEXTS.items():
        if key in given:
            if given[key] is not None and not isinstance(given[key], str):
                raise refused(f"Field publicConfig.{key} must be a string or null, got {given[key]!r:.80}.")
            config[key] = check_length(f"publicConfig.{key}", given[key], most)
    if "inputSchemaFields" in given:
        names = given["inputSchemaFields"]
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise refused(f"Field publicConfig.inputSchemaFields must be a list of strings or null, got {names!r:.80}.")
        config["inputSchemaFields"] = names
    return config


def check_publishable_task(task: Task, actor: Actor, build: Build) -> None:
    """Refuse to publish what could not be shown. Raises 400 ``cannot-publish-actor-task`` with the first reason."""
    config = task.fields.get("publicConfig") or {}
    if not actor.is_public:
        raise _cannot_publish("its Actor is not public")
    if not task.fields.get("description"):
        raise _cannot_publish("field description is empty")
    for key in ("inputSchemaFields", "datasetView", "seoDescription"):
        if not config.get(key):
            raise _cannot_publish(f"field publicConfig.{key} is empty")
    known = msgspec.json.decode(build.input_schema or "{}").get("properties") or {}
    for name in config["inputSchemaFields"]:
        if name not in known:
            raise _cannot_publish(
                f"field publicConfig.inputSchemaFields names {name[:80]!r}, which is not in the Actor's input schema"
            )
    _check_view(config, _datasets(build))


def _check_view(config: dict[str, Any], datasets: dict[str, Any]) -> None:
    name = config.get("datasetName") or (next(iter(datasets)) if len(datasets) == 1 else _DEFAULT_DATASET)
    dataset = datasets.get(name)
    if dataset is None:
        raise _cannot_publish(f"the Actor declares no dataset {name[:80]!r}")
    views = dataset.get("views") if isinstance(dataset, dict) else None
    if not isinstance(views, dict) or config["datasetView"] not in views:
        raise _cannot_publish(
            f"field publicConfig.datasetView names {config['datasetView'][:80]!r}, which is no view of the dataset"
        )


def _datasets(build: Build) -> dict[str, Any]:
    storages = (build.actor_definition or {}).get("storages") or {}
    several = storages.get("datasets")
    if isinstance(several, dict):
        return several
    return {_DEFAULT_DATASET: storages["dataset"]} if "dataset" in storages else {}


def too_many_public_tasks() -> ApiError:
    """400 for the task that would be one too many."""
    return _cannot_publish(f"an Actor can have at most {MAX_PUBLIC_TASKS} public tasks")


def _cannot_publish(reason: str) -> ApiError:
    return ApiError(ErrorType.CANNOT_PUBLISH_ACTOR_TASK, f"The task cannot be published: {reason}.")
