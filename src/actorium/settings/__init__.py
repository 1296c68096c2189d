"""Every setting: name, environment variable, type, default, help, in ``table.py``; how they are read, here.

A value comes from a flag, else the environment, else the configuration file, else the default.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import msgspec

from actorium.settings.kinds import Setting, SettingError
from actorium.settings.table import SETTINGS

__all__ = ["SETTINGS", "SettingError", "Settings", "load_settings", "settings_markdown"]

CONFIG_FILE = "actorium.toml"

_BY_NAME = {setting.name: setting for setting in SETTINGS}


class Settings(msgspec.Struct, frozen=True):
    """All values; see ``SETTINGS`` for their meaning."""

    data_dir: Path
    host: str
    port: int
    public_base_url: str
    runs_domain: str
    standby_domain: str
    web_server_ports: tuple[int, int]
    database_url: str
    blob_store_url: str
    s3_endpoint_url: str
    s3_region: str
    s3_access_key_id: str
    s3_secret_access_key: str
    instance_key: str
    log_level: str
    log_format: str
    sqlite_synchronous: str
    max_total_memory_mbytes: int
    max_concurrent_runs: int
    max_user_memory_mbytes: int
    max_user_concurrent_runs: int
    when_limits_are_reached: str
    queue_overtaking_secs: float
    default_permission_level: str
    approve_full_permissions: bool
    max_concurrent_builds: int
    default_run_memory_mbytes: int
    default_run_timeout_secs: int
    finished_run_days: int
    untagged_build_days: int
    builder: str
    docker_host: str
    docker_api_base_url: str
    docker_network: str
    docker_base_image_prefix: str
    max_source_mbytes: int
    git_local_repositories: bool
    git_mirrors: dict[str, str]
    docker_registry_logins: dict[str, str]
    docker_buildkit: str
    build_timeout_secs: float
    abort_grace_secs: float
    abort_children_with_parent: bool
    stop_grace_secs: float
    warm_interpreters: int
    migration_window_secs: float
    requested_migration_window_secs: float
    max_log_mbytes: int
    max_record_mbytes: int
    webhook_dispatch_days: int
    audit_log_days: int
    oidc_issuer_url: str
    oidc_client_id: str
    oidc_client_secret: str
    oidc_scopes: str
    oidc_groups_claim: str
    sign_in_groups: frozenset[str]
    admin_groups: frozenset[str]
    sign_in_header: str
    sign_in_groups_header: str
    sign_in_proxies: tuple[IPv4Network | IPv6Network, ...]
    session_hours: float
    private_addresses: str
    unnamed_storage_days: int
    usage_prices_usd: dict[str, float]
    max_monthly_usage_usd: float
    abort_runs_at_monthly_limit: bool


def load_settings(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | None = None,
) -> Settings:
    """Read every setting. ``flags`` by setting name, ``None`` = not given. Raises ``SettingError``."""
    flags = {name: value for name, value in (flags or {}).items() if value is not None}
    environ = os.environ if environ is None else environ
    data_dir = _from(_BY_NAME["data_dir"], flags, environ, {})
    path = config or data_dir / CONFIG_FILE
    return Settings(**{setting.name: _from(setting, flags, environ, _read_file(path)) for setting in SETTINGS})


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is not valid TOML: {error}") from error
    unknown = values.keys() - _BY_NAME.keys()
    if unknown:
        raise SettingError(f"{path} has unknown settings: {', '.join(sorted(unknown))}.")
    return values


def _from(setting: Setting, flags: Mapping[str, object], environ: Mapping[str, str], file: Mapping[str, Any]) -> Any:
    if setting.name in flags:
        return setting.read(str(flags[setting.name]), setting.flag)
    if setting.env_var in environ:
        return setting.read(environ[setting.env_var], setting.env_var)
    if setting.name in file:
        return setting.read(str(file[setting.name]), CONFIG_FILE)
    return setting.read(setting.default, "default")


def settings_markdown() -> str:
    """The table for ``docs/settings.md``."""
    lines = ["| Setting | Environment variable | Flag | Default | Meaning |", "| --- | --- | --- | --- | --- |"]
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else "empty"
        lines.append(
            f"| `{setting.name}` | `{setting.env_var}` | `{setting.flag}` | {default} | "
            f"{setting.help} Allowed: {setting.allowed}. |"
        )
    return "\n".join(lines) + "\n"
