"""The ``resource`` of a webhook's payload: a run or build as its ``GET`` shows it, with links."""

from __future__ import annotations

from typing import Any

from actorium.api.actor_shapes import build_shape
from actorium.api.run_shapes import RunShapes
from actorium.domain.models import Build, Run
from actorium.kit import Clock
from actorium.services.access import Principal
from actorium.services.usage import Usage

_KINDS = {"datasets": "datasets", "keyValueStores": "key-value-stores", "requestQueues": "request-queues"}


class EventResources:
    """Renders what events tell of. docs: automation, section 4.3."""

    def __init__(self, shapes: RunShapes, usage: Usage, clock: Clock, base_url: str) -> None:
        self._shapes = shapes
        self._usage = usage
        self._clock = clock
        self._base_url = base_url

    async def render(self, resource: Run | Build) -> dict[str, Any]:
        """The resource as its owner sees it: a run with its links and storages, a build without its source files."""
        if isinstance(resource, Build):
            built = build_shape(resource, self._clock.now_ms(), self._usage.prices, (), is_own=True)
            built["actVersion"].pop("sourceFiles", None)
            return built
        owner = Principal(resource.user_id, "", "webhook")
        shape = self._shapes.full(resource, self._base_url, await self._usage.of_run(owner, resource))
        api = f"{self._base_url}/v2"
        shape["links"] = {
            "publicRunUrl": f"{self._base_url}/view/runs/{resource.id}",
            "consoleRunUrl": shape["consoleUrl"],
            "apiRunUrl": f"{api}/actor-runs/{resource.id}",
            "apiDefaultDatasetUrl": f"{api}/datasets/{resource.default_dataset_id}",
            "apiDefaultKeyValueStoreUrl": f"{api}/key-value-stores/{resource.default_key_value_store_id}",
            "containerRunUrl": shape.get("containerUrl"),
        }
        shape["storages"] = {
            kind: {
                alias: {"id": storage_id, "apiUrl": f"{api}/{path}/{storage_id}"}
                for alias, storage_id in resource.storage_ids.get(kind, {}).items()
            }
            for kind, path in _KINDS.items()
        }
        return shape
