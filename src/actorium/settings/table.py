"""The table of all settings, from which ``docs/settings.md`` is made."""

from __future__ import annotations

import os
from pathlib import Path

from actorium.settings.kinds import (
    PRICED_SERVICES,
    Setting,
    directory,
    domain,
    free_text,
    machine_memory,
    memory_or_none,
    one_of,
    port_range,
    prefixes,
    prices_usd,
    registry_logins,
    run_memory,
    seconds,
    switch,
    url,
    usd,
    whole_number,
)

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "data_dir",
        directory,
        "a directory",
        str(Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "actorium").replace(str(Path.home()), "~"),
        "Where the server keeps everything: database, records, logs, images, directories of live runs.",
    ),
    Setting(
        "host",
        free_text,
        "an address or host name",
        "127.0.0.1",
        "Address to listen on. Use 0.0.0.0 to be reachable from other machines.",
    ),
    Setting(
        "port", whole_number(0, 65_535), "a port from 0 to 65535", "3333", "Port to listen on; 0 takes a free one."
    ),
    Setting(
        "public_base_url",
        url("http://", "https://"),
        "an http or https URL",
        "",
        "URL under which users reach the server, where it is not the one they call (behind a proxy).",
    ),
    Setting(
        "runs_domain",
        domain,
        "empty, or a domain name",
        "",
        "Domain below which each run's web server has a name of its own, as in runs.example.com; needs a wildcard in "
        "the DNS. Empty: runs.localhost where the server is for this machine alone, else a path on its own address.",
    ),
    Setting(
        "standby_domain",
        domain,
        "empty, or a domain name",
        "",
        "The same for the Standby servers of Actors and tasks. Empty: standby.localhost, or a path.",
    ),
    Setting(
        "web_server_ports",
        port_range,
        "a range of ports such as 20000-29999",
        "20000-29999",
        "Ports for the web servers of native runs, on the loopback address.",
    ),
    Setting(
        "database_url",
        url("postgresql://", "postgres://"),
        "empty, or a postgresql:// URL",
        "",
        "Database. Empty: SQLite in the data directory.",
        secret=True,
    ),
    Setting(
        "blob_store_url",
        url("s3://"),
        "empty, or an s3:// URL",
        "",
        "Where large values are kept. Empty: in the data directory. s3://bucket/prefix: an S3-compatible store.",
    ),
    Setting("s3_endpoint_url", url("http://", "https://"), "an http or https URL", "", "Endpoint of the S3 store."),
    Setting("s3_region", free_text, "a region", "us-east-1", "Region of the S3 store."),
    Setting("s3_access_key_id", free_text, "a key id", "", "Access key of the S3 store.", secret=True),
    Setting("s3_secret_access_key", free_text, "a key", "", "Secret key of the S3 store.", secret=True),
    Setting(
        "instance_key",
        free_text,
        "at least 32 characters",
        "",
        "Key that seals secrets and makes run tokens. Empty: the file instance.key in the data directory, "
        "made on the first start. All servers on one database need the same.",
        secret=True,
    ),
    Setting(
        "log_level",
        one_of("debug", "info", "warning", "error"),
        "debug, info, warning or error",
        "info",
        "Least severe message the server logs.",
    ),
    Setting(
        "log_format",
        one_of("console", "json"),
        "console or json",
        "console",
        "Form of the server's log on standard error.",
    ),
    Setting(
        "sqlite_synchronous",
        one_of("FULL", "NORMAL"),
        "FULL or NORMAL",
        "FULL",
        "FULL: an answered write survives a power cut. NORMAL: it survives a crash of the server only.",
    ),
    Setting(
        "max_total_memory_mbytes",
        machine_memory,
        "a number of at least 128",
        "",
        "Memory of all live runs together; further runs wait in READY. Empty: what the machine has.",
    ),
    Setting(
        "max_concurrent_runs",
        whole_number(1),
        "a number of at least 1",
        "250",
        "Most runs with a live process; further runs wait in READY.",
    ),
    Setting(
        "max_user_memory_mbytes",
        memory_or_none,
        "0, or a number of at least 128",
        "0",
        "Memory of all live runs of one user together, where 'actorium users limits' sets no other. 0 = all there is.",
    ),
    Setting(
        "max_user_concurrent_runs",
        whole_number(0),
        "a number, 0 for no limit",
        "0",
        "Most runs of one user with a live process, where 'actorium users limits' sets no other. 0 = no limit.",
    ),
    Setting(
        "when_limits_are_reached",
        one_of("queue", "reject"),
        "queue or reject",
        "queue",
        "What becomes of a run beyond the limits of memory and concurrent runs. queue: it waits in READY. "
        "reject: the call that starts it is refused, as the platform does.",
    ),
    Setting(
        "queue_overtaking_secs",
        seconds,
        "a number of seconds",
        "60",
        "How long smaller runs may overtake a run that waits because it does not fit; then nothing behind it starts "
        "before it.",
    ),
    Setting(
        "default_permission_level",
        one_of("FULL_PERMISSIONS", "LIMITED_PERMISSIONS"),
        "FULL_PERMISSIONS or LIMITED_PERMISSIONS",
        "FULL_PERMISSIONS",
        "actorPermissionLevel of new Actors that do not say. FULL_PERMISSIONS: the token of a run may do what its user "
        "may. LIMITED_PERMISSIONS: little more than the run's own task.",
    ),
    Setting(
        "approve_full_permissions",
        switch,
        "true or false",
        "false",
        "Whether users must approve another user's Actor before it runs for them with full permissions.",
    ),
    Setting("max_concurrent_builds", whole_number(1), "a number of at least 1", "2", "Most builds at work at once."),
    Setting(
        "default_run_memory_mbytes",
        run_memory,
        "a power of two from 128 to 32768",
        "1024",
        "Memory of a run where neither the call nor the Actor says.",
    ),
    Setting(
        "default_run_timeout_secs",
        whole_number(0, 999_999_999),
        "a number of seconds, 0 for none",
        "3600",
        "Timeout of a run where neither the call nor the Actor says; 0 = none.",
    ),
    Setting(
        "untagged_build_days",
        whole_number(0),
        "a number of days, 0 for ever",
        "0",
        "Days until a finished build is deleted that has no tag, that no Actor or task names by its number, and that "
        "no run has used since. 0 = never.",
    ),
    Setting(
        "builder",
        one_of("native", "docker"),
        "native or docker",
        "native",
        "What builds and runs Actors. native: processes of this machine; a version's environment variable "
        "ACTORIUM_BUILDER=docker asks for containers. docker: containers only.",
    ),
    Setting(
        "docker_host",
        url("unix://", "tcp://", "http://", "https://"),
        "empty, or a unix, tcp, http or https URL",
        "",
        "Docker engine. Empty: the environment variable DOCKER_HOST, else unix:///var/run/docker.sock.",
    ),
    Setting(
        "docker_api_base_url",
        url("http://", "https://"),
        "empty, or an http or https URL",
        "",
        "URL under which containers reach the server. Empty: the server also listens at the gateway of docker_network.",
    ),
    Setting(
        "docker_network",
        free_text,
        "a name",
        "actorium",
        "Docker network of runs and builds; made without traffic between containers when it is missing.",
    ),
    Setting(
        "docker_base_image_prefix",
        free_text,
        "a registry, with a path or without",
        "",
        "Registry put before base images that name none, such as a mirror: registry.example.com/mirror.",
    ),
    Setting(
        "docker_registry_logins",
        registry_logins,
        "registry=user:password, several separated by blanks",
        "",
        "Accounts for pulling base images: registry.example.com=user:password docker.io=name:token. Better given as "
        "the environment variable than as a flag, which other users of the machine can see.",
        secret=True,
    ),
    Setting(
        "docker_buildkit",
        one_of("auto", "always", "never"),
        "auto, always or never",
        "auto",
        "When images are built by the engine's BuildKit, whose steps have no memory limit and are on the engine's "
        "default network. auto: where a Dockerfile uses what only BuildKit can do (RUN --mount, here-documents).",
    ),
    Setting(
        "max_source_mbytes",
        whole_number(1),
        "a number of at least 1",
        "1024",
        "Largest source archive of a build, and largest Git clone on disk.",
    ),
    Setting(
        "git_local_repositories",
        switch,
        "true or false",
        "false",
        "Whether versions of Actors may name Git repositories on the server's own disk (file:///path). Every user can "
        "then read whatever repositories the server's account can.",
    ),
    Setting(
        "git_mirrors",
        prefixes,
        "pairs PREFIX=REPLACEMENT between commas",
        "",
        "Where Git repositories are fetched from instead, by the beginning of their URLs. For example "
        "https://github.com/=https://git.example.com/github/. What takes the place of a prefix may be any address.",
    ),
    Setting("build_timeout_secs", seconds, "a number of seconds", "1800", "Timeout of a build."),
    Setting(
        "abort_grace_secs",
        seconds,
        "a number of seconds",
        "30",
        "Time a run has to save its state after a graceful abort. 30 is the platform's documented value.",
    ),
    Setting(
        "abort_children_with_parent",
        switch,
        "true or false",
        "false",
        "Whether an abort of a run also aborts the runs it has started, those they have started, and so on.",
    ),
    Setting(
        "stop_grace_secs",
        seconds,
        "a number of seconds",
        "5",
        "Time between SIGTERM and SIGKILL when a process is stopped.",
    ),
    Setting(
        "warm_interpreters",
        whole_number(0, 1000),
        "a number from 0 to 1000",
        "2",
        "Builds for which a Python interpreter with the Actor's dependencies imported is kept, 10 minutes beyond the "
        "last start; runs are forked from it. Each holds some 30 to 150 MB. 0 = every run starts its own.",
    ),
    Setting(
        "migration_window_secs",
        seconds,
        "a number of seconds",
        "5",
        "Time live runs have to save their state when the server stops and takes them down with it.",
    ),
    Setting(
        "requested_migration_window_secs",
        seconds,
        "a number of seconds",
        "30",
        "Time a run has to save its state when it is asked to migrate, or when the server is drained.",
    ),
    Setting(
        "max_log_mbytes",
        whole_number(0),
        "a number, 0 for no limit",
        "100",
        "Most output kept per run or build; then one notice, and the rest is dropped. 0 = no limit.",
    ),
    Setting(
        "max_record_mbytes",
        whole_number(1),
        "a number of at least 1",
        "5120",
        "Largest record of a key-value store, as it is uploaded; a larger one is refused.",
    ),
    Setting(
        "webhook_dispatch_days",
        whole_number(0),
        "a number of days, 0 for ever",
        "30",
        "Days for which finished dispatches of webhooks are kept. 0 = for ever.",
    ),
    Setting(
        "audit_log_days",
        whole_number(0),
        "a number of days, 0 for ever",
        "365",
        "Days for which entries of the audit log are kept. 0 = for ever.",
    ),
    Setting(
        "private_addresses",
        one_of("allow", "forbid"),
        "allow or forbid",
        "allow",
        "Whether webhooks may be sent to, and sources of Actors fetched from, private, loopback and link-local "
        "addresses. Forbid it where users who may not reach the server's network can make webhooks or builds; calls to "
        "this server's own API stay allowed.",
    ),
    Setting(
        "unnamed_storage_days",
        whole_number(0),
        "a number of days, 0 for ever",
        "0",
        "Days after its last use until a storage without a name, that no run made, is deleted. 0 = never. "
        "Storages of a run live as long as the run.",
    ),
    Setting(
        "usage_prices_usd",
        prices_usd,
        "pairs SERVICE=PRICE between commas, with services of the API's usage (" + ", ".join(PRICED_SERVICES) + ")",
        "",
        "What one unit of a service costs in US dollars: an operation, a compute unit, 10^9 bytes. For example "
        "ACTOR_COMPUTE_UNITS=0.3,DATASET_WRITES=0.000005. Services without a price cost 0.",
    ),
    Setting(
        "max_monthly_usage_usd",
        usd,
        "a number of at least 0, 0 for no limit",
        "0",
        "What the services that a user uses in a month (UTC) may cost, for users who have set no limit of their own. "
        "Then new starts are refused with 402.",
    ),
    Setting(
        "abort_runs_at_monthly_limit",
        switch,
        "true or false",
        "false",
        "Whether the runs of a user whose month is used up are aborted gracefully; else they go on.",
    ),
)
