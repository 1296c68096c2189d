"""Every setting: name, environment variable, type, default, help. ``docs/settings.md`` is made from this table.

A value comes from a flag, else the environment, else the configuration file, else the default.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

ENV_PREFIX = "ACTORIUM_"
CONFIG_FILE = "actorium.toml"


class SettingError(ValueError):
    """A setting has a value it cannot have; the message names setting, value and what is allowed."""


class Setting(msgspec.Struct, frozen=True):
    """One row of the table. ``default`` is text as a user would write it; ``secret`` values are never shown."""

    name: str
    parse: Callable[[str], Any]
    allowed: str
    default: str
    help: str
    secret: bool = False

    @property
    def env_var(self) -> str:
        """The environment variable that sets it."""
        return ENV_PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command-line flag that sets it."""
        return "--" + self.name.replace("_", "-")

    def read(self, text: str, source: str) -> Any:
        """The value of ``text``, which ``source`` gave."""
        try:
            return self.parse(text)
        except ValueError as error:
            shown = "***" if self.secret else repr(text)
            raise SettingError(f"{self.name} ({source}) has the value {shown}: it must be {self.allowed}.") from error


def _text(text: str) -> str:
    return text


def _path(text: str) -> Path:
    if not text:
        raise ValueError
    return Path(text).expanduser().absolute()


def _whole(minimum: int, maximum: int = 2**53) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not minimum <= value <= maximum:
            raise ValueError
        return value

    return parse


def _secs(text: str) -> float:
    value = float(text)
    if not 0 <= value < 10**9:
        raise ValueError
    return value


_PRICED = (
    "ACTOR_COMPUTE_UNITS",
    "DATASET_READS",
    "DATASET_WRITES",
    "KEY_VALUE_STORE_READS",
    "KEY_VALUE_STORE_WRITES",
    "KEY_VALUE_STORE_LISTS",
    "REQUEST_QUEUE_READS",
    "REQUEST_QUEUE_WRITES",
    "DATA_TRANSFER_INTERNAL_GBYTES",
    "DATA_TRANSFER_EXTERNAL_GBYTES",
    "PROXY_RESIDENTIAL_TRANSFER_GBYTES",
    "PROXY_SERPS",
)


def _prices(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, price = item.partition("=")
        name = name.strip().upper()
        if name not in _PRICED or name in found:
            raise ValueError
        found[name] = _usd(price)
    return found


def _usd(text: str) -> float:
    value = float(text)
    if not 0 <= value < 10**9:
        raise ValueError
    return value


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        for value in allowed:
            if text.lower() == value.lower():
                return value
        raise ValueError

    return parse


def _switch(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise ValueError


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text and not text.startswith(schemes):
            raise ValueError
        return text.rstrip("/")

    return parse


def _domain(text: str) -> str:
    if text and not re.fullmatch(r"[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*", text):
        raise ValueError
    return text.lower()


def _ports(text: str) -> tuple[int, int]:
    first, last = (_whole(1, 65_535)(part) for part in text.split("-"))
    if first > last:
        raise ValueError
    return first, last


def _machine_memory_mbytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def _memory(text: str) -> int:
    return _machine_memory_mbytes() if not text else _whole(128)(text)


def _memory_or_none(text: str) -> int:
    return 0 if text == "0" else _whole(128)(text)


def _run_memory(text: str) -> int:
    value = _whole(128, 32_768)(text)
    if value & (value - 1):
        raise ValueError
    return value


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "data_dir",
        _path,
        "a directory",
        str(Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "actorium").replace(str(Path.home()), "~"),
        "Where the server keeps everything: database, records, logs, images, directories of live runs.",
    ),
    Setting(
        "host",
        _text,
        "an address or host name",
        "127.0.0.1",
        "Address to listen on. Use 0.0.0.0 to be reachable from other machines.",
    ),
    Setting("port", _whole(0, 65_535), "a port from 0 to 65535", "3333", "Port to listen on; 0 takes a free one."),
    Setting(
        "public_base_url",
        _url("http://", "https://"),
        "an http or https URL",
        "",
        "URL under which users reach the server, where it is not the one they call (behind a proxy).",
    ),
    Setting(
        "runs_domain",
        _domain,
        "empty, or a domain name",
        "",
        "Domain below which each run's web server has a name of its own, as in runs.example.com; needs a wildcard in "
        "the DNS. Empty: runs.localhost where the server is for this machine alone, else a path on its own address.",
    ),
    Setting(
        "standby_domain",
        _domain,
        "empty, or a domain name",
        "",
        "The same for the Standby servers of Actors and tasks. Empty: standby.localhost, or a path.",
    ),
    Setting(
        "web_server_ports",
        _ports,
        "a range of ports such as 20000-29999",
        "20000-29999",
        "Ports for the web servers of native runs, on the loopback address.",
    ),
    Setting(
        "database_url",
        _url("postgresql://", "postgres://"),
        "empty, or a postgresql:// URL",
        "",
        "Database. Empty: SQLite in the data directory.",
        secret=True,
    ),
    Setting(
        "blob_store_url",
        _url("s3://"),
        "empty, or an s3:// URL",
        "",
        "Where large records are kept. Empty: in the data directory. s3://bucket/prefix: an S3-compatible store.",
    ),
    Setting("s3_endpoint_url", _url("http://", "https://"), "an http or https URL", "", "Endpoint of the S3 store."),
    Setting("s3_region", _text, "a region", "us-east-1", "Region of the S3 store."),
    Setting("s3_access_key_id", _text, "a key id", "", "Access key of the S3 store.", secret=True),
    Setting("s3_secret_access_key", _text, "a key", "", "Secret key of the S3 store.", secret=True),
    Setting(
        "instance_key",
        _text,
        "at least 32 characters",
        "",
        "Key that seals secrets and makes run tokens. Empty: the file instance.key in the data directory, "
        "made on the first start. All servers on one database need the same.",
        secret=True,
    ),
    Setting(
        "log_level",
        _one_of("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "info",
        "Least severe message the server logs.",
    ),
    Setting(
        "log_format",
        _one_of("console", "json"),
        "console or json",
        "console",
        "Form of the server's log on standard error.",
    ),
    Setting(
        "sqlite_synchronous",
        _one_of("FULL", "NORMAL"),
        "FULL or NORMAL",
        "FULL",
        "FULL: an answered write survives a power cut. NORMAL: it survives a crash of the server only.",
    ),
    Setting(
        "max_total_memory_mbytes",
        _memory,
        "a number of at least 128",
        "",
        "Memory of all live runs together; further runs wait in READY. Empty: what the machine has.",
    ),
    Setting(
        "max_concurrent_runs",
        _whole(1),
        "a number of at least 1",
        "250",
        "Most runs with a live process; further runs wait in READY.",
    ),
    Setting(
        "max_user_memory_mbytes",
        _memory_or_none,
        "0, or a number of at least 128",
        "0",
        "Memory of all live runs of one user together, where 'actorium users limits' sets no other. 0 = all there is.",
    ),
    Setting(
        "max_user_concurrent_runs",
        _whole(0),
        "a number, 0 for no limit",
        "0",
        "Most runs of one user with a live process, where 'actorium users limits' sets no other. 0 = no limit.",
    ),
    Setting(
        "when_limits_are_reached",
        _one_of("queue", "reject"),
        "queue or reject",
        "queue",
        "What becomes of a run beyond the limits of memory and concurrent runs. queue: it waits in READY. "
        "reject: the call that starts it is refused, as the platform does.",
    ),
    Setting(
        "queue_overtaking_secs",
        _secs,
        "a number of seconds",
        "60",
        "How long smaller runs may overtake a run that waits because it does not fit; then nothing behind it starts "
        "before it.",
    ),
    Setting(
        "default_permission_level",
        _one_of("FULL_PERMISSIONS", "LIMITED_PERMISSIONS"),
        "FULL_PERMISSIONS or LIMITED_PERMISSIONS",
        "FULL_PERMISSIONS",
        "actorPermissionLevel of new Actors that do not say. FULL_PERMISSIONS: the token of a run may do what its user "
        "may. LIMITED_PERMISSIONS: little more than the run's own task.",
    ),
    Setting(
        "approve_full_permissions",
        _switch,
        "true or false",
        "false",
        "Whether users must approve another user's Actor before it runs for them with full permissions.",
    ),
    Setting("max_concurrent_builds", _whole(1), "a number of at least 1", "2", "Most builds at work at once."),
    Setting(
        "default_run_memory_mbytes",
        _run_memory,
        "a power of two from 128 to 32768",
        "1024",
        "Memory of a run where neither the call nor the Actor says.",
    ),
    Setting(
        "default_run_timeout_secs",
        _whole(0, 999_999_999),
        "a number of seconds, 0 for none",
        "3600",
        "Timeout of a run where neither the call nor the Actor says; 0 = none.",
    ),
    Setting(
        "untagged_build_days",
        _whole(0),
        "a number of days, 0 for ever",
        "0",
        "Days until a finished build is deleted that has no tag, that no Actor or task names by its number, and that "
        "no run has used since. 0 = never.",
    ),
    Setting(
        "builder",
        _one_of("native", "docker"),
        "native or docker",
        "native",
        "What builds and runs Actors. native: processes of this machine; a version's environment variable "
        "ACTORIUM_BUILDER=docker asks for containers. docker: containers only.",
    ),
    Setting(
        "docker_host",
        _url("unix://", "tcp://", "http://", "https://"),
        "empty, or a unix, tcp, http or https URL",
        "",
        "Docker engine. Empty: the environment variable DOCKER_HOST, else unix:///var/run/docker.sock.",
    ),
    Setting(
        "docker_api_base_url",
        _url("http://", "https://"),
        "empty, or an http or https URL",
        "",
        "URL under which containers reach the server. Empty: the server also listens at the gateway of docker_network.",
    ),
    Setting(
        "docker_network",
        _text,
        "a name",
        "actorium",
        "Docker network of runs and builds; made without traffic between containers when it is missing.",
    ),
    Setting(
        "docker_base_image_prefix",
        _text,
        "a registry, with a path or without",
        "",
        "Registry put before base images that name none, such as a mirror: registry.example.com/mirror.",
    ),
    Setting("build_timeout_secs", _secs, "a number of seconds", "1800", "Timeout of a build."),
    Setting(
        "abort_grace_secs",
        _secs,
        "a number of seconds",
        "30",
        "Time a run has to save its state after a graceful abort. 30 is the platform's documented value.",
    ),
    Setting(
        "abort_children_with_parent",
        _switch,
        "true or false",
        "false",
        "Whether an abort of a run also aborts the runs it has started, those they have started, and so on.",
    ),
    Setting(
        "stop_grace_secs",
        _secs,
        "a number of seconds",
        "5",
        "Time between SIGTERM and SIGKILL when a process is stopped.",
    ),
    Setting(
        "warm_interpreters",
        _whole(0, 1000),
        "a number from 0 to 1000",
        "2",
        "Builds for which a Python interpreter with the Actor's dependencies imported is kept, 10 minutes beyond the "
        "last start; runs are forked from it. Each holds some 30 to 150 MB. 0 = every run starts its own.",
    ),
    Setting(
        "migration_window_secs",
        _secs,
        "a number of seconds",
        "5",
        "Time live runs have to save their state when the server stops and takes them down with it.",
    ),
    Setting(
        "requested_migration_window_secs",
        _secs,
        "a number of seconds",
        "30",
        "Time a run has to save its state when it is asked to migrate, or when the server is drained.",
    ),
    Setting(
        "max_log_mbytes",
        _whole(0),
        "a number, 0 for no limit",
        "100",
        "Most output kept per run or build; then one notice, and the rest is dropped. 0 = no limit.",
    ),
    Setting(
        "max_record_mbytes",
        _whole(1),
        "a number of at least 1",
        "5120",
        "Largest record of a key-value store, as it is uploaded; a larger one is refused.",
    ),
    Setting(
        "webhook_dispatch_days",
        _whole(0),
        "a number of days, 0 for ever",
        "30",
        "Days for which finished dispatches of webhooks are kept. 0 = for ever.",
    ),
    Setting(
        "private_addresses",
        _one_of("allow", "forbid"),
        "allow or forbid",
        "allow",
        "Whether webhooks may be sent to private, loopback and link-local addresses. Forbid it where users who may not "
        "reach the server's network can make webhooks; calls to this server's own API stay allowed.",
    ),
    Setting(
        "unnamed_storage_days",
        _whole(0),
        "a number of days, 0 for ever",
        "0",
        "Days after its last use until a storage without a name, that no run made, is deleted. 0 = never. "
        "Storages of a run live as long as the run.",
    ),
    Setting(
        "usage_prices_usd",
        _prices,
        "pairs SERVICE=PRICE between commas, with services of the API's usage (" + ", ".join(_PRICED) + ")",
        "",
        "What one unit of a service costs in US dollars: an operation, a compute unit, 10^9 bytes. For example "
        "ACTOR_COMPUTE_UNITS=0.3,DATASET_WRITES=0.000005. Services without a price cost 0.",
    ),
    Setting(
        "max_monthly_usage_usd",
        _usd,
        "a number of at least 0, 0 for no limit",
        "0",
        "What the services that a user uses in a month (UTC) may cost, for users who have set no limit of their own. "
        "Then new starts are refused with 402.",
    ),
    Setting(
        "abort_runs_at_monthly_limit",
        _switch,
        "true or false",
        "false",
        "Whether the runs of a user whose month is used up are aborted gracefully; else they go on.",
    ),
)

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
    untagged_build_days: int
    builder: str
    docker_host: str
    docker_api_base_url: str
    docker_network: str
    docker_base_image_prefix: str
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
