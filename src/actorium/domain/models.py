"""The resources as the program holds them. Times are milliseconds since the epoch (``*_at``).

Wire names and shapes are the API layer's business (``api/shapes.py``).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NewType

import msgspec

from actorium.domain.permissions import PermissionLevel

UserId = NewType("UserId", str)
ActorId = NewType("ActorId", str)
BuildId = NewType("BuildId", str)
RunId = NewType("RunId", str)


class JobStatus(StrEnum):
    """Public status of a run or build. openapi: ActorJobStatus."""

    READY = "READY"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMING_OUT = "TIMING-OUT"
    TIMED_OUT = "TIMED-OUT"
    ABORTING = "ABORTING"
    ABORTED = "ABORTED"

    @property
    def is_terminal(self) -> bool:
        """Whether only a resurrection can leave this status."""
        return self in TERMINAL_STATUSES


TERMINAL_STATUSES = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.TIMED_OUT, JobStatus.ABORTED})


class Origin(StrEnum):
    """How a run or build was started. openapi: RunOrigin."""

    DEVELOPMENT = "DEVELOPMENT"
    WEB = "WEB"
    API = "API"
    SCHEDULER = "SCHEDULER"
    TEST = "TEST"
    WEBHOOK = "WEBHOOK"
    ACTOR = "ACTOR"
    CLI = "CLI"
    STANDBY = "STANDBY"
    CI = "CI"
    MCP = "MCP"
    APIFY_AI = "APIFY_AI"


class GeneralAccess(StrEnum):
    """Who may read a run or storage without an owner's token. openapi: GeneralAccess."""

    FOLLOW_USER_SETTING = "FOLLOW_USER_SETTING"
    RESTRICTED = "RESTRICTED"
    ANYONE_WITH_ID_CAN_READ = "ANYONE_WITH_ID_CAN_READ"
    ANYONE_WITH_NAME_CAN_READ = "ANYONE_WITH_NAME_CAN_READ"


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a run or build came from. ``workflow_key`` is the one the caller announced.

    A run of a schedule has the latter's id, when it was to be started, and the id of the action: of an Actor
    (``act2``) or of a task.
    """

    origin: str
    client_ip: str | None = None
    user_agent: str | None = None
    workflow_key: str | None = None
    schedule_id: str | None = None
    scheduled_at: int | None = None
    scheduled_act2_id: str | None = None
    scheduled_actor_task_id: str | None = None

    @property
    def schedule_action_id(self) -> str | None:
        """The action of a schedule that started the run."""
        return self.scheduled_act2_id or self.scheduled_actor_task_id


class User(msgspec.Struct, frozen=True):
    """An account; everything belongs to exactly one. ``role`` is one of ``accounts.Role``."""

    id: str
    username: str
    email: str
    created_at: int
    role: str = "USER"


class SourceFile(msgspec.Struct, frozen=True):
    """A file of a ``SOURCE_FILES`` version; ``format`` is ``TEXT`` or ``BASE64``; ``folder`` marks an empty folder."""

    name: str
    format: str = "TEXT"
    content: str = ""
    folder: bool = False


class EnvVar(msgspec.Struct, frozen=True):
    """A version's environment variable. ``value`` is sealed text when ``is_secret``."""

    name: str
    value: str
    is_secret: bool = False


class Version(msgspec.Struct, frozen=True):
    """A version of an Actor's sources. ``source`` depends on ``source_type``: files, or a URL."""

    actor_id: str
    version_number: str
    source_type: str
    source_files: tuple[SourceFile, ...] = ()
    source_url: str | None = None
    env_vars: tuple[EnvVar, ...] = ()
    apply_env_vars_to_build: bool = False
    build_tag: str | None = None


DEFAULT_TAG = "latest"
"""The tag of the build that runs use where neither they nor their Actor say."""


class Debug(msgspec.Struct, frozen=True):
    """A debugger for a run: it listens at ``port`` of the machine (0: a free one); ``waits``: until one is attached."""

    port: int
    waits: bool = False


class DevFolder(msgspec.Struct, frozen=True):
    """A folder of the server's machine that runs of an Actor are made from, and what its last build was made of."""

    folder: str
    debug: Debug | None = None
    build_id: str | None = None
    fingerprint: str = ""


class Actor(msgspec.Struct, frozen=True):
    """An Actor without its versions. ``fields`` holds the descriptive API fields as sent (title, categories, ...).

    ``dev`` is set while it is being developed in a folder of this machine.
    """

    id: str
    user_id: str
    name: str
    created_at: int
    modified_at: int
    default_run_options: dict[str, Any]
    fields: dict[str, Any]
    dev: DevFolder | None = None

    @property
    def is_public(self) -> bool:
        """Whether everybody may see and run it."""
        return bool(self.fields.get("isPublic"))

    @property
    def default_build(self) -> str:
        """The tag or number of the build that runs use unless they ask for another one."""
        return self.default_run_options.get("build") or DEFAULT_TAG


class ActorStats(msgspec.Struct, frozen=True):
    """Counts over an Actor's builds and runs, ever. ``recent_users`` are those of the last 7, 30 and 90 days.

    ``public_run_statuses`` counts, for a public Actor, the statuses of others' runs of the last 30 days.
    """

    total_builds: int
    total_runs: int
    total_users: int
    last_run_started_at: int | None
    recent_users: tuple[int, ...]
    total_metamorphs: int = 0
    public_run_statuses: dict[str, int] | None = None


class Task(msgspec.Struct, frozen=True):
    """A task: an Actor with input and options of its own. ``options`` has the API's names, only those that are set.

    ``fields`` holds what only describes it (title, description, actorStandby, publicConfig). It is public since
    ``published_at``.
    """

    id: str
    user_id: str
    actor_id: str
    name: str
    created_at: int
    modified_at: int
    options: dict[str, Any] | None
    input: dict[str, Any] | None
    fields: dict[str, Any]
    total_runs: int = 0
    last_run_started_at: int | None = None
    published_at: int | None = None


class ListedTask(msgspec.Struct, frozen=True):
    """A task as lists show it; the Actor's names are ``None`` where the Actor is gone."""

    task: Task
    username: str
    actor_name: str | None
    actor_username: str | None


class Build(msgspec.Struct, frozen=True):
    """A build. ``image_kind``/``image_state`` are the builder's output, ``None`` until it succeeded."""

    id: str
    actor_id: str
    user_id: str
    version_number: str
    build_number: str
    status: JobStatus
    started_at: int
    finished_at: int | None
    meta: Meta
    options: dict[str, Any]
    tag: str | None
    exit_code: int | None
    status_message: str | None
    running_at: int | None
    abort_requested: bool
    env_vars: tuple[EnvVar, ...]
    actor_version: dict[str, Any]
    image_kind: str | None = None
    image_state: dict[str, Any] | None = None
    image_size_bytes: int | None = None
    actor_definition: dict[str, Any] | None = None
    input_schema: str | None = None
    readme: str | None = None
    changelog: str | None = None


class Wanted(StrEnum):
    """What the engine is asked to bring about for a run; never shown to clients.

    RUN: keep it running. STOP: end it for good. RESTART: end the attempt and start another (reboot).
    MIGRATE: end the attempt; another one continues where there is a server again.
    METAMORPH: end the attempt; the next one is of the Actor the run belongs to by now.
    """

    RUN = "run"
    STOP = "stop"
    RESTART = "restart"
    MIGRATE = "migrate"
    METAMORPH = "metamorph"


class StopReason(StrEnum):
    """Why a run is being stopped. An immediate abort kills at once, the others send SIGTERM first."""

    ABORT = "abort"
    GRACEFUL_ABORT = "graceful-abort"
    IDLE = "idle"
    TIMEOUT = "timeout"


class StandbyTerms(msgspec.Struct, frozen=True):
    """How a run of a Standby server is used: requests at once that are desired and allowed, and its idle timeout."""

    desired_requests: int
    max_requests: int
    idle_timeout_secs: int


class RunOptions(msgspec.Struct, frozen=True):
    """Options a run was started with. ``build`` is the tag or number as requested; ``timeout_secs`` 0 = none.

    ``max_total_charge_usd`` limits what the Actor charges, ``max_total_usage_usd`` what the platform's services cost;
    ``priority`` orders a user's runs that wait: larger first. ``debug``: its process is started under a debugger.
    """

    build: str
    timeout_secs: int
    memory_mbytes: int
    disk_mbytes: int
    max_items: int | None = None
    max_total_charge_usd: float | None = None
    restart_on_error: bool = False
    priority: int = 0
    max_total_usage_usd: float | None = None
    debug: Debug | None = None


class RunStats(msgspec.Struct, frozen=True):
    """Counters and measurements of a run over all its attempts. CPU usage in percent of one core.

    ``duration_millis``, ``cpu_secs`` and ``mem_byte_secs`` hold what ended attempts add up to,
    ``attempt_cpu_secs`` and ``attempt_mem_byte_secs`` what the live one has used so far. ``restarts_at`` are the
    times of recent restarts on error, ``losses_at`` of relaunches after the process had vanished.
    """

    input_body_len: int = 0
    migration_count: int = 0
    reboot_count: int = 0
    restart_count: int = 0
    resurrect_count: int = 0
    mem_max_bytes: int = 0
    mem_current_bytes: int = 0
    cpu_max_usage: float = 0.0
    cpu_current_usage: float = 0.0
    net_rx_bytes: int = 0
    net_tx_bytes: int = 0
    duration_millis: int = 0
    cpu_secs: float = 0.0
    mem_byte_secs: float = 0.0
    attempt_cpu_secs: float = 0.0
    attempt_mem_byte_secs: float = 0.0
    restarts_at: tuple[int, ...] = ()
    losses_at: tuple[int, ...] = ()

    def averages(self, duration_millis: int) -> tuple[float, float]:
        """``(cpu_avg_usage, mem_avg_bytes)`` over a total of ``duration_millis``."""
        secs = duration_millis / 1000
        if secs <= 0:
            return 0.0, 0.0
        cpu_secs = self.cpu_secs + self.attempt_cpu_secs
        return cpu_secs / secs * 100, (self.mem_byte_secs + self.attempt_mem_byte_secs) / secs


class StartKey(msgspec.Struct, frozen=True):
    """A client's key for a start call, and what tells this call from another one; ``run_id`` of the run it started."""

    text: str
    fingerprint: str
    run_id: str | None = None


class Metamorph(msgspec.Struct, frozen=True):
    """A run's change into another Actor; ``input_key`` is ``None`` when it was given no input."""

    created_at: int
    actor_id: str
    build_id: str
    input_key: str | None


class Run(msgspec.Struct, frozen=True):
    """A run: what clients see, and the private columns the engine works from.

    ``running_at`` is when the live attempt was started (``None`` while there is none);
    ``timeout_at`` ends the time budget; ``stop_at`` is the deadline of a stop that was asked for.
    ``standby`` marks a run of a Standby server, which is not needed any more at ``idle_at``; one that
    ``is_retired`` gets no new requests.
    ``queued_at`` is since when it is, or when it was last, READY; ``queue_rank`` its place among its user's READY
    runs, smallest first (``domain/queueing.py``). ``parent_run_id`` is the run whose token started it.
    ``sealed_secrets`` are the texts of its input that its log must not show.
    ``permission_level`` is what its token may do, ``storage_grants`` what a limited one may reach by its input.
    ``abort_children_at`` is set while runs below an aborted one are still to be aborted; it grows with each reason.
    ``pricing_info`` is the Actor's as the API shows it, in force when the run was made; ``charged_event_counts`` are
    those of its events, or of items where these have a price.
    """

    id: str
    user_id: str
    actor_id: str
    task_id: str | None
    build_id: str
    build_number: str
    status: JobStatus
    started_at: int
    finished_at: int | None
    running_at: int | None
    timeout_at: int | None
    wanted: Wanted
    stop_at: int | None
    stop_reason: StopReason | None
    status_message: str | None
    is_status_message_terminal: bool | None
    is_platform_message: bool
    exit_code: int | None
    meta: Meta
    options: RunOptions
    stats: RunStats
    general_access: str
    default_dataset_id: str
    default_key_value_store_id: str
    default_request_queue_id: str
    storage_ids: dict[str, dict[str, str]]
    container_slug: str
    events_secret: str
    workflow_key: str
    web_server_host: str | None = None
    web_server_port: int | None = None
    queued_at: int = 0
    queue_rank: int = 0
    parent_run_id: str | None = None
    sealed_secrets: str | None = None
    abort_children_at: int | None = None
    is_container_server_ready: bool = False
    standby: StandbyTerms | None = None
    idle_at: int | None = None
    is_retired: bool = False
    pricing_info: dict[str, Any] | None = None
    charged_event_counts: dict[str, int] | None = None
    charging_stopped_at: int | None = None
    permission_level: PermissionLevel = PermissionLevel.FULL
    storage_grants: dict[str, bool] = {}
    metamorphs: tuple[Metamorph, ...] = ()

    @property
    def input_key(self) -> str:
        """The record of the default key-value store that is the input of the next attempt."""
        return metamorph_input_key(len(self.metamorphs)) if self.metamorphs else "INPUT"


def metamorph_input_key(number: int) -> str:
    """The record with the input of a run's metamorph, counted from 1. docs: runs, section 4.9."""
    return f"INPUT-METAMORPH-{number}"


class Attempt(msgspec.Struct, frozen=True):
    """One life of a run's process tree. ``handle`` is the runtime's own JSON; ``exit`` is set when it is over.

    ``removed`` says that the runtime has deleted what the attempt left on disk.
    """

    id: str
    run_id: str
    number: int
    created_at: int
    handle: dict[str, Any] | None
    finished_at: int | None
    exit: dict[str, Any] | None
    removed: bool
