"""Actors, versions, environment variables and builds on the wire. openapi: Actor, Version, EnvVar, Build."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actorium.api.run_shapes import build_number_int
from actorium.domain.deployment_keys import DeploymentKeys
from actorium.domain.models import Actor, ActorStats, Build, EnvVar, SourceFile, Version
from actorium.domain.pricing import compute_units
from actorium.domain.secrets import value_hash
from actorium.domain.times import iso, iso_or_none
from actorium.domain.usage import Prices, UsageService
from actorium.domain.versions import URL_FIELDS
from actorium.domain.web_addresses import WebAddresses
from actorium.services.actors import ActorView


def actor_shape(view: ActorView, addresses: WebAddresses, keys: DeploymentKeys) -> dict[str, Any]:
    """The Actor with every field; sources, variables and deployment key only for its owner."""
    actor, fields = view.actor, view.actor.fields
    standby = fields.get("actorStandby")
    is_enabled = bool(standby and standby.get("isEnabled"))
    shape: dict[str, Any] = {
        "id": actor.id,
        "userId": actor.user_id,
        "name": actor.name,
        "username": view.username,
        "title": fields.get("title"),
        "description": fields.get("description"),
        "seoTitle": fields.get("seoTitle"),
        "seoDescription": fields.get("seoDescription"),
        "pictureUrl": fields.get("pictureUrl"),
        "isPublic": bool(fields.get("isPublic")),
        "isDeprecated": bool(fields.get("isDeprecated")),
        "isCritical": bool(fields.get("isCritical")),
        "isGeneric": bool(fields.get("isGeneric")),
        "isSourceCodeHidden": fields.get("isSourceCodeHidden", True),
        "hasNoDataset": bool(fields.get("hasNoDataset")),
        "isAnonymouslyRunnable": bool(fields.get("isAnonymouslyRunnable")),
        "actorPermissionLevel": fields.get("actorPermissionLevel") or "FULL_PERMISSIONS",
        "createdAt": iso(actor.created_at),
        "modifiedAt": iso(actor.modified_at),
        "restartOnError": bool(actor.default_run_options.get("restartOnError")),
        "versions": [version_shape(version, with_sources=view.is_own) for version in view.versions],
        "defaultRunOptions": actor.default_run_options,
        "exampleRunInput": fields.get("exampleRunInput"),
        "taggedBuilds": {tag: _tagged(build) for tag, build in view.tagged_builds.items()},
        "actorStandby": standby,
        "standbyUrl": addresses.standby_url(actor.id, view.username, actor.name) if is_enabled else None,
        "pricingInfos": fields.get("pricingInfos") or [],
        "categories": fields.get("categories") or [],
        "notice": fields.get("notice") or "NONE",
        "stats": stats_shape(view.stats),
    }
    if view.is_own:
        shape["deploymentKey"] = keys.public(actor.id)
    if fields.get("readmeSummary") is not None:
        shape["readmeSummary"] = fields["readmeSummary"]
    return shape


def stats_shape(counts: ActorStats) -> dict[str, Any]:
    """``stats`` of an Actor; ``lastRunStartedAt`` is absent before the first run. Nobody reviews or bookmarks here."""
    stats: dict[str, Any] = {
        "totalBuilds": counts.total_builds,
        "totalRuns": counts.total_runs,
        "totalUsers": counts.total_users,
        "totalMetamorphs": counts.total_metamorphs,
        "actorReviewCount": 0,
        "actorReviewRating": 0,
        "bookmarkCount": 0,
    }
    for days, users in zip((7, 30, 90), counts.recent_users, strict=True):
        stats[f"totalUsers{days}Days"] = users
    statuses = counts.public_run_statuses
    if statuses is not None:
        shown = {name: statuses.get(name, 0) for name in ("ABORTED", "FAILED", "SUCCEEDED", "TIMED-OUT")}
        stats["publicActorRunStats30Days"] = {**shown, "TOTAL": sum(statuses.values())}
    if counts.last_run_started_at is not None:
        stats["lastRunStartedAt"] = iso(counts.last_run_started_at)
    return stats


def actor_short_shape(actor: Actor, username: str, counts: ActorStats) -> dict[str, Any]:
    """The Actor as an item of a list."""
    shape: dict[str, Any] = {
        "id": actor.id,
        "createdAt": iso(actor.created_at),
        "modifiedAt": iso(actor.modified_at),
        "name": actor.name,
        "username": username,
        "stats": stats_shape(counts),
    }
    # The document knows no null here.
    if actor.fields.get("title") is not None:
        shape["title"] = actor.fields["title"]
    return shape


def version_shape(version: Version, *, with_sources: bool = True) -> dict[str, Any]:
    """A version."""
    shape: dict[str, Any] = {
        "versionNumber": version.version_number,
        "sourceType": version.source_type,
        "applyEnvVarsToBuild": version.apply_env_vars_to_build,
        "buildTag": version.build_tag,
    }
    if not with_sources:
        return shape
    shape["envVars"] = [env_var_shape(var, with_hash=True) for var in version.env_vars]
    if version.source_type == "SOURCE_FILES":
        shape["sourceFiles"] = [source_file_shape(file) for file in version.source_files]
    else:
        shape[URL_FIELDS[version.source_type]] = version.source_url
    return shape


def source_file_shape(file: SourceFile) -> dict[str, Any]:
    """A file or empty folder of a version."""
    if file.folder:
        return {"name": file.name, "folder": True}
    return {"name": file.name, "format": file.format, "content": file.content}


def env_var_shape(var: EnvVar, *, with_hash: bool = False) -> dict[str, Any]:
    """A variable; a secret one never with its value."""
    if not var.is_secret:
        return {"name": var.name, "value": var.value, "isSecret": False}
    shape: dict[str, Any] = {"name": var.name, "isSecret": True}
    if with_hash:
        shape["valueHash"] = value_hash(var.value)
    return shape


def _tagged(build: Build) -> dict[str, Any]:
    return {
        "buildId": build.id,
        "buildNumber": build.build_number,
        "buildNumberInt": build_number_int(build.build_number),
        "finishedAt": iso_or_none(build.finished_at),
    }


def build_shape(
    build: Build, now: int, prices: Prices, source_files: Sequence[SourceFile], *, is_own: bool
) -> dict[str, Any]:
    """A build with every field; the sources, given for its owner only, and what it used are not for everybody."""
    duration_millis = _duration_millis(build, now)
    units = compute_units(build.options["memoryMbytes"], duration_millis)
    cost = _cost(build, now, prices)
    stats: dict[str, Any] = {
        "durationMillis": duration_millis,
        "runTimeSecs": duration_millis / 1000,
        "computeUnits": units,
    }
    if build.image_size_bytes is not None:
        stats["imageSizeBytes"] = build.image_size_bytes
    version = build.actor_version
    snapshot = {key: version[key] for key in ("sourceType", "versionNumber", "buildTag") if version[key] is not None}
    if is_own:
        if version["sourceType"] == "GIT_REPO":
            snapshot["gitRepoUrl"] = version["sourceUrl"]
        if version["sourceType"] == "SOURCE_FILES":
            snapshot["sourceFiles"] = [source_file_shape(file) for file in source_files]
    shape: dict[str, Any] = {
        "id": build.id,
        "actId": build.actor_id,
        "userId": build.user_id,
        "startedAt": iso(build.started_at),
        "finishedAt": iso_or_none(build.finished_at),
        "status": build.status.value,
        "statusMessage": build.status_message,
        "exitCode": build.exit_code,
        "buildNumber": build.build_number,
        "buildNumberInt": build_number_int(build.build_number),
        "meta": _meta(build),
        "stats": stats,
        "options": build.options,
        "inputSchema": build.input_schema,
        "readme": build.readme,
        "changelog": build.changelog,
        "actVersion": snapshot,
        "actorDefinition": build.actor_definition,
    }
    if is_own:
        shape["usage"] = {"ACTOR_COMPUTE_UNITS": units}
        shape["usageUsd"] = {"ACTOR_COMPUTE_UNITS": cost}
        shape["usageTotalUsd"] = cost
    return shape


def build_short_shape(build: Build, now: int, prices: Prices) -> dict[str, Any]:
    """The build as an item of a list; ``usageTotalUsd`` must be a number for the Python client."""
    return {
        "id": build.id,
        "actId": build.actor_id,
        "userId": build.user_id,
        "status": build.status.value,
        "startedAt": iso(build.started_at),
        "finishedAt": iso_or_none(build.finished_at),
        "usageTotalUsd": _cost(build, now, prices),
        "buildNumber": build.build_number,
        "buildNumberInt": build_number_int(build.build_number),
        "meta": _meta(build),
    }


def _duration_millis(build: Build, now: int) -> int:
    return 0 if build.running_at is None else max(0, (build.finished_at or now) - build.running_at)


def _cost(build: Build, now: int, prices: Prices) -> float:
    mbyte_millis = build.options["memoryMbytes"] * _duration_millis(build, now)
    return float(prices.total({UsageService.ACTOR_COMPUTE_UNITS: mbyte_millis}))


def _meta(build: Build) -> dict[str, Any]:
    # The document knows no null here.
    known = {"origin": build.meta.origin, "clientIp": build.meta.client_ip, "userAgent": build.meta.user_agent}
    return {key: value for key, value in known.items() if value is not None}
