"""Actors, their versions and environment variables."""

from __future__ import annotations

from urllib.parse import quote

from starlette.responses import Response

from actorium.api.actor_shapes import actor_shape, actor_short_shape, env_var_shape, version_shape
from actorium.api.http import Call, Route, data_response
from actorium.api.shapes import page
from actorium.domain.deployment_keys import DeploymentKeys
from actorium.domain.models import Actor
from actorium.domain.web_addresses import WebAddresses
from actorium.services.actors import Actors
from actorium.services.versions import Versions

_SORTS = frozenset({"createdAt", "stats.lastRunStartedAt"})


class ActorRoutes:
    """Handlers of the Actor routes."""

    def __init__(self, actors: Actors, addresses: WebAddresses, versions: Versions, keys: DeploymentKeys) -> None:
        self._actors = actors
        self._addresses = addresses
        self._keys = keys
        self._versions = versions

    def routes(self) -> list[Route]:
        """All routes of this module."""
        actor = "/v2/actors/{actorId}"
        version = f"{actor}/versions/{{versionNumber}}"
        env_var = f"{version}/env-vars/{{envVarName}}"
        return [
            Route("GET", "/v2/actors", "actors_get", self.list),
            Route("POST", "/v2/actors", "actors_post", self.create),
            Route("GET", actor, "actor_get", self.get, public=True),
            Route("PUT", actor, "actor_put", self.update),
            Route("DELETE", actor, "actor_delete", self.delete),
            Route("GET", f"{actor}/versions", "actor_versions_get", self.list_versions),
            Route("POST", f"{actor}/versions", "actor_versions_post", self.create_version),
            Route("GET", version, "actor_version_get", self.get_version),
            Route("PUT", version, "actor_version_put", self.update_version),
            Route("POST", version, "actor_version_post", self.update_version),
            Route("DELETE", version, "actor_version_delete", self.delete_version),
            Route("GET", f"{version}/env-vars", "actor_version_envVars_get", self.list_env_vars),
            Route("POST", f"{version}/env-vars", "actor_version_envVars_post", self.create_env_var),
            Route("GET", env_var, "actor_version_envVar_get", self.get_env_var),
            Route("PUT", env_var, "actor_version_envVar_put", self.update_env_var),
            Route("POST", env_var, "actor_version_envVar_post", self.update_env_var),
            Route("DELETE", env_var, "actor_version_envVar_delete", self.delete_env_var),
        ]

    async def list(self, call: Call) -> Response:
        """The Actors the caller made or ran."""
        query = call.query
        offset, limit = query.page()
        desc = query.flag("desc")
        found, total = await self._actors.list(
            call.principal,
            my=query.flag("my"),
            sort_by=query.choice("sortBy", _SORTS) or "createdAt",
            offset=offset,
            limit=limit,
            desc=desc,
        )
        items = [actor_short_shape(actor, username, stats) for actor, username, stats in found]
        return data_response(page(items, total=total, offset=offset, limit=limit, desc=desc))

    async def create(self, call: Call) -> Response:
        """Create an Actor."""
        view = await self._actors.create(call.principal, await call.json_object())
        location = f"{call.public_base_url}/v2/actors/{view.actor.id}"
        return data_response(actor_shape(view, self._addresses, self._keys), 201, {"Location": location})

    async def get(self, call: Call) -> Response:
        """One Actor."""
        principal = call.principal_or_none
        actor = await self._actors.resolve(principal, call.path["actorId"])
        return data_response(actor_shape(await self._actors.view(principal, actor), self._addresses, self._keys))

    async def update(self, call: Call) -> Response:
        """Change an Actor."""
        actor = await self._own(call)
        view = await self._actors.update(call.principal, actor, await call.json_object())
        return data_response(actor_shape(view, self._addresses, self._keys))

    async def delete(self, call: Call) -> Response:
        """Delete an Actor."""
        await self._actors.delete(await self._own(call))
        return Response(status_code=204)

    async def list_versions(self, call: Call) -> Response:
        """All versions of an Actor; sources stay out of lists."""
        found = await self._versions.list(await self._own(call))
        items = [version_shape(version) for version in found]
        for item in items:
            item.pop("sourceFiles", None)
        return data_response(page(items, total=len(items), offset=0, limit=max(1, len(items))))

    async def create_version(self, call: Call) -> Response:
        """Create a version."""
        actor = await self._own(call)
        version = await self._versions.create(actor, await call.json_object())
        location = f"{call.public_base_url}/v2/actors/{actor.id}/versions/{version.version_number}"
        return data_response(version_shape(version), 201, {"Location": location})

    async def get_version(self, call: Call) -> Response:
        """One version."""
        return data_response(version_shape(await self._versions.get(await self._own(call), _number(call))))

    async def update_version(self, call: Call) -> Response:
        """Change a version."""
        actor = await self._own(call)
        version = await self._versions.update(actor, _number(call), await call.json_object())
        return data_response(version_shape(version))

    async def delete_version(self, call: Call) -> Response:
        """Delete a version."""
        await self._versions.delete(await self._own(call), _number(call))
        return Response(status_code=204)

    async def list_env_vars(self, call: Call) -> Response:
        """The variables of a version."""
        version = await self._versions.get(await self._own(call), _number(call))
        offset, limit = call.query.page()
        items = [env_var_shape(var) for var in version.env_vars]
        return data_response(page(items[offset : offset + limit], total=len(items), offset=offset, limit=limit))

    async def create_env_var(self, call: Call) -> Response:
        """Create a variable."""
        actor = await self._own(call)
        var = await self._versions.create_env_var(actor, _number(call), await call.json_object())
        location = f"{call.public_base_url}/v2/actors/{actor.id}/versions/{_number(call)}/env-vars/{quote(var.name)}"
        return data_response(env_var_shape(var), 201, {"Location": location})

    async def get_env_var(self, call: Call) -> Response:
        """One variable."""
        actor = await self._own(call)
        return data_response(
            env_var_shape(await self._versions.get_env_var(actor, _number(call), call.path["envVarName"]))
        )

    async def update_env_var(self, call: Call) -> Response:
        """Change a variable."""
        actor = await self._own(call)
        name = call.path["envVarName"]
        var = await self._versions.update_env_var(actor, _number(call), name, await call.json_object())
        return data_response(env_var_shape(var))

    async def delete_env_var(self, call: Call) -> Response:
        """Delete a variable."""
        actor = await self._own(call)
        await self._versions.delete_env_var(actor, _number(call), call.path["envVarName"])
        return Response(status_code=204)

    async def _own(self, call: Call) -> Actor:
        return await self._actors.resolve_own(call.principal, call.path["actorId"])


def _number(call: Call) -> str:
    return call.path["versionNumber"]
