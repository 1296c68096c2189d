"""Versions and environment variables out of request bodies."""

from __future__ import annotations

from typing import Any

from actorium.domain.errors import refused
from actorium.domain.models import EnvVar, Version
from actorium.domain.secrets import Vault
from actorium.domain.versions import (
    MAX_ENV_VARS,
    SOURCE_TYPES,
    GivenEnvVar,
    check_env_var,
    check_source_files,
    check_source_url,
    check_tag,
)


def version_from_body(
    vault: Vault, actor_id: str, number: str, body: dict[str, Any], current: Version | None
) -> Version:
    """A version out of a body, with what the body does not name taken from ``current``."""
    source_type = body.get("sourceType") or (current.source_type if current else None)
    if source_type not in SOURCE_TYPES:
        raise refused(f"Field sourceType must be one of {', '.join(SOURCE_TYPES)}, got {source_type!r:.60}.")
    files, url = (current.source_files, current.source_url) if current else ((), None)
    if source_type == "SOURCE_FILES":
        if body.get("sourceFiles") is not None:
            files = check_source_files(body["sourceFiles"])
        url = None
    else:
        field = {"GIT_REPO": "gitRepoUrl", "TARBALL": "tarballUrl", "GITHUB_GIST": "gitHubGistUrl"}[source_type]
        if body.get(field) is not None or url is None or current is None or current.source_type != source_type:
            url = check_source_url(source_type, body.get(field))
        files = ()
    tag = body.get("buildTag", current.build_tag if current else None)
    applies = body.get("applyEnvVarsToBuild")
    if applies is not None and not isinstance(applies, bool):
        raise refused("Field applyEnvVarsToBuild must be a boolean.")
    return Version(
        actor_id=actor_id,
        version_number=number,
        source_type=source_type,
        source_files=files,
        source_url=url,
        env_vars=_env_vars(vault, body.get("envVars"), current.env_vars if current else ()),
        apply_env_vars_to_build=applies if applies is not None else bool(current and current.apply_env_vars_to_build),
        build_tag=check_tag("buildTag", tag) if tag is not None else None,
    )


def _env_vars(vault: Vault, value: object, current: tuple[EnvVar, ...]) -> tuple[EnvVar, ...]:
    if value is None:
        return current
    if not isinstance(value, list):
        raise refused("Field envVars must be a list.")
    if len(value) > MAX_ENV_VARS:
        raise refused(f"Field envVars has {len(value)} variables, the limit is {MAX_ENV_VARS}.")
    stored = {var.name: var for var in current}
    merged: dict[str, EnvVar] = {}
    for position, item in enumerate(value):
        given = check_env_var(item, f"envVars[{position}].")
        merged[given.name] = merge_env_var(vault, given, stored.get(given.name))
    return tuple(merged.values())


def merge_env_var(vault: Vault, given: GivenEnvVar, current: EnvVar | None) -> EnvVar:
    """A variable as it is stored: value and ``isSecret`` that are not given stay as they are."""
    is_secret = given.is_secret if given.is_secret is not None else bool(current and current.is_secret)
    if given.value is not None:
        return EnvVar(given.name, vault.seal(given.value) if is_secret else given.value, is_secret)
    if current is None:
        return EnvVar(given.name, vault.seal("") if is_secret else "", is_secret)
    if current.is_secret == is_secret:
        return EnvVar(given.name, current.value, is_secret)
    if is_secret:
        return EnvVar(given.name, vault.seal(current.value), is_secret)
    # A secret's value is never shown, so it cannot turn into a plain one.
    return EnvVar(given.name, "", is_secret)
