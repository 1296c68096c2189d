"""The whole program on one event loop: every object, and the order in which they start and stop."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from actorium.api import health as health_api
from actorium.api.account import AccountRoutes
from actorium.api.actors import ActorRoutes
from actorium.api.aliases import default_storages
from actorium.api.approvals import ApprovalRoutes
from actorium.api.audit_log import AuditLogRoutes
from actorium.api.builds import BuildRoutes
from actorium.api.charging import ChargeRoutes
from actorium.api.datasets import DatasetRoutes
from actorium.api.event_resources import EventResources
from actorium.api.http import Api, Route, mount
from actorium.api.identity_headers import IdentityHeaders
from actorium.api.inputs import InputRoutes
from actorium.api.key_value_stores import KeyValueStoreRoutes
from actorium.api.logs import Logs
from actorium.api.metamorph import MetamorphRoutes
from actorium.api.request_queues import RequestQueueRoutes
from actorium.api.run_extensions import RunExtensionRoutes
from actorium.api.run_shapes import RunShapes
from actorium.api.run_sync import RunSync
from actorium.api.runs import RunRoutes
from actorium.api.schedules import ScheduleRoutes
from actorium.api.sign_in import SignInRoutes
from actorium.api.store import StoreRoutes
from actorium.api.tasks import TaskRoutes
from actorium.api.tokens import TokenRoutes
from actorium.api.tools import ToolRoutes
from actorium.api.webhooks import WebhookRoutes
from actorium.app.opening import capacity_of, open_blobs, open_database, open_logs, retention_of
from actorium.builders.chosen import ChosenBuilder
from actorium.builders.docker import DockerBuilder
from actorium.builders.native import NativeBuilder
from actorium.builders.origins import Downloads, GitRules, Origins
from actorium.domain.deployment_keys import DeploymentKeys
from actorium.domain.errors import ApiError
from actorium.domain.models import Run
from actorium.domain.secrets import Vault
from actorium.domain.usage import Prices
from actorium.domain.web_addresses import WebAddresses
from actorium.edge.doors import Doors
from actorium.edge.events import PATH as EVENTS_PATH
from actorium.edge.events import Events
from actorium.edge.proxy import Proxy
from actorium.edge.requests import WebRouter
from actorium.edge.standby import StandbyServers
from actorium.edge.web_servers import RunWebServers
from actorium.engine.builds import BuildEngine, BuildSettings
from actorium.engine.child_aborts import ChildAborts
from actorium.engine.parts import EngineSettings, Parts
from actorium.engine.ports import Ports
from actorium.engine.readiness import Prober
from actorium.engine.schedules import Scheduler
from actorium.engine.standby import StandbyRetirement
from actorium.engine.supervisor import Supervisor
from actorium.engine.webhook_calls import WebhookCalls
from actorium.engine.webhooks import WebhookDelivery, WebhookSettings
from actorium.kit import Clock, Signals, SystemClock
from actorium.outbound import Outbound
from actorium.runtimes.chosen import ChosenRuntime
from actorium.runtimes.docker import DockerEngine, DockerRuntime
from actorium.runtimes.process import ProcessRuntime
from actorium.services.access import Access, Principal
from actorium.services.accounts import Accounts
from actorium.services.actors import Actors
from actorium.services.approvals import Approvals
from actorium.services.audit_log import AuditLog
from actorium.services.block_merging import BlockMerging
from actorium.services.budgets import Budgets, BudgetSettings
from actorium.services.builds import Builds
from actorium.services.charging import Charging
from actorium.services.datasets import Datasets
from actorium.services.dev_folders import DevBuilds
from actorium.services.health import Health
from actorium.services.jobs import Jobs
from actorium.services.key_value_stores import KeyValueStores
from actorium.services.limits import Limits
from actorium.services.metamorph import Metamorphs
from actorium.services.queueing import Queueing
from actorium.services.record_values import decoded_chunks
from actorium.services.request_queues import RequestQueues
from actorium.services.retention import Retention
from actorium.services.run_batches import RunBatches
from actorium.services.run_inputs import RunInputs
from actorium.services.run_migrations import RunMigrations
from actorium.services.run_options import RunSettings
from actorium.services.run_starts import RunStarts
from actorium.services.run_stops import PlatformStops
from actorium.services.runs import Runs
from actorium.services.schedules import Schedules
from actorium.services.sign_in import SignIn, SignInRules
from actorium.services.standby import Standby
from actorium.services.storage_housekeeping import StorageHousekeeping
from actorium.services.storages import ReadCounts, Storages
from actorium.services.store import Store
from actorium.services.tasks import Tasks
from actorium.services.token_scopes import Lookups, ScopeGate
from actorium.services.tools import Tools
from actorium.services.versions import Versions
from actorium.services.web_servers import WebServers
from actorium.services.webhooks import Webhooks
from actorium.settings import Settings
from actorium.storage.accounts import AccountReader
from actorium.storage.audit_log import AuditedDatabase
from actorium.storage.data_directory import instance_key


class Platform:
    """The whole program on one event loop, without the listening socket."""

    def __init__(self, settings: Settings, api_base_url: str, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock = clock or SystemClock()
        self.db = AuditedDatabase(open_database(settings), clock)
        self.audit_log = AuditLog(self.db, clock, keep_days=settings.audit_log_days)
        self.signals = Signals()
        key = instance_key(settings.data_dir, settings.instance_key)
        vault = Vault(key)
        public_base_url = settings.public_base_url or api_base_url
        addresses = WebAddresses.of(public_base_url, settings.runs_domain, settings.standby_domain)

        self.access = Access(AccountReader(self.db), clock, key)
        self.accounts = Accounts(self.db, clock)
        self.tools = Tools(self.accounts, key)
        self.blobs = open_blobs(settings)
        self.logs = open_logs(settings)
        self.prices = Prices(settings.usage_prices_usd)
        self.reads = ReadCounts(self.db, clock, self.prices)
        self.storages = Storages(self.db, clock, self.reads, unnamed_days=settings.unnamed_storage_days)
        self.records = KeyValueStores(
            self.db, clock, self.blobs, self.reads, max_record_bytes=settings.max_record_mbytes * 2**20
        )
        self.merging = BlockMerging(self.db, clock, self.blobs)
        self.housekeeping = StorageHousekeeping(self.db, clock, self.blobs)
        self.actors = Actors(
            self.db,
            clock,
            vault,
            self._after_deletion_of_actor,
            default_run_options={
                "build": "latest",
                "timeoutSecs": settings.default_run_timeout_secs,
                "memoryMbytes": settings.default_run_memory_mbytes,
                "restartOnError": False,
            },
            default_level=settings.default_permission_level,
        )
        self.builds = Builds(self.db, clock, self.signals, self.logs)
        capacity = capacity_of(settings)
        self.retention = Retention(self.db, clock, self.builds, self.logs, retention_of(settings))
        self.run_settings = run_settings = RunSettings(
            default_memory_mbytes=settings.default_run_memory_mbytes,
            default_timeout_secs=settings.default_run_timeout_secs,
            capacity=capacity,
            abort_grace_secs=settings.abort_grace_secs,
            abort_children_with_parent=settings.abort_children_with_parent,
            approval_base_url=public_base_url if settings.approve_full_permissions else None,
        )
        self.inputs = RunInputs(self.db, clock, vault)
        stops = PlatformStops(clock, self.signals, self.logs, run_settings)
        self.charging = Charging(self.db, clock, self.reads.usage, stops)
        self.budgets = Budgets(
            self.db,
            clock,
            self.reads.usage,
            self.charging,
            stops,
            BudgetSettings(settings.max_monthly_usage_usd, settings.abort_runs_at_monthly_limit),
        )
        parts = (self.db, clock, self.signals, self.actors, self.builds, self.logs, self.charging, self.budgets)
        dev = DevBuilds(self.db, clock, self.builds)
        self.starts = RunStarts(*parts[:4], dev, *parts[5:], self.inputs, run_settings)
        self.runs = Runs(*parts, run_settings)
        self.tasks = Tasks(self.db, clock, self.actors, self.builds, self.inputs, self.starts, self._abort_runs_of_task)
        self.migrations = RunMigrations(self.db, clock, self.signals, settings.requested_migration_window_secs)
        self.events = Events(self.runs, clock)
        self.prober = Prober()
        self.doors = Doors()
        self.processes = ProcessRuntime(settings.data_dir / "runs", warm_interpreters=settings.warm_interpreters)
        engine = DockerEngine(settings.docker_host)
        self.containers = DockerRuntime(
            engine,
            settings.data_dir / "docker",
            self.doors.open,
            network=settings.docker_network,
            api_base_url=settings.docker_api_base_url,
        )
        self.native_builder = NativeBuilder(settings.data_dir / "builds")
        self.docker_builder = DockerBuilder(
            engine,
            settings.data_dir / "docker" / "builds",
            self.containers.network_name,
            base_image_prefix=settings.docker_base_image_prefix,
            buildkit=settings.docker_buildkit,
            logins=settings.docker_registry_logins,
        )
        self.supervisor = Supervisor(
            Parts(
                db=self.db,
                clock=clock,
                signals=self.signals,
                runtime=ChosenRuntime({"native": self.processes, "docker": self.containers}),
                logs=self.logs,
                events=self.events,
                usage=self.reads.usage,
                settings=EngineSettings(
                    stop_grace_secs=settings.stop_grace_secs,
                    capacity=capacity,
                    queue_overtaking_secs=settings.queue_overtaking_secs,
                    api_base_url=api_base_url,
                    public_base_url=public_base_url,
                ),
                run_token=self.access.run_token,
                open_secret=vault.open,
                events_url=_events_url,
                ports=Ports(*settings.web_server_ports),
                addresses=addresses,
                find_web_server=self.prober.find,
                networks={"docker": self.containers},
            )
        )
        self.child_aborts = ChildAborts(self.db, self.signals, self.runs)
        self.standby_retirement = StandbyRetirement(self.db, clock, self.signals)
        keys = DeploymentKeys(key)
        outbound = Outbound(allow_private=settings.private_addresses == "allow")
        max_source_bytes = settings.max_source_mbytes * 2**20
        self.origins = Origins(
            outbound,
            Downloads(outbound, (api_base_url, public_base_url), max_source_bytes),
            GitRules(
                allow_local=settings.git_local_repositories,
                mirrors=settings.git_mirrors,
                known_hosts=settings.data_dir / "known_hosts",
                max_bytes=max_source_bytes,
            ),
            self._read_record,
            keys.private,
        )
        self.build_engine = BuildEngine(
            self.db,
            clock,
            self.signals,
            ChosenBuilder({"native": self.native_builder, "docker": self.docker_builder}, settings.builder),
            self.logs,
            vault.open,
            self.origins,
            BuildSettings(
                max_concurrent=settings.max_concurrent_builds,
                timeout_secs=settings.build_timeout_secs,
                downloads=settings.data_dir / "downloads",
            ),
        )
        server_name = f"{socket.gethostname()}:{settings.data_dir}"
        self.schedules = Schedules(self.db, clock, self.signals, self.actors, self.tasks)
        self.scheduler = Scheduler(self.db, clock, self.signals, self.starts, self.tasks, server_name)
        self.webhooks = Webhooks(self.db, clock, self.signals, vault)
        resources = EventResources(RunShapes(clock, addresses, self.prices), self.reads.usage, clock, public_base_url)
        self.delivery = WebhookDelivery(
            self.db,
            clock,
            self.signals,
            WebhookCalls(allow_private=settings.private_addresses == "allow"),
            resources.render,
            vault.open,
            self.access.user_token,
            WebhookSettings(
                server_name=server_name,
                base_urls=(api_base_url, public_base_url),
                keep_days=settings.webhook_dispatch_days,
            ),
        )
        self.scopes = ScopeGate(
            self.db,
            Lookups(
                self.actors.resolve,
                self.tasks.resolve,
                self.runs.get,
                self.builds.get,
                self.storages.resolve,
                self.schedules.resolve,
                self.webhooks.get,
                self.webhooks.get_dispatch,
            ),
        )
        provider = None
        if settings.oidc_issuer_url:
            from actorium.services.oidc import OidcProvider  # slow to import, and seldom used

            provider = OidcProvider(
                settings.oidc_issuer_url,
                settings.oidc_client_id,
                settings.oidc_client_secret,
                settings.oidc_scopes,
                clock,
            )
        rules = SignInRules(
            settings.sign_in_groups, settings.admin_groups, settings.oidc_groups_claim, settings.session_hours
        )
        self.sign_in = SignIn(self.db, clock, self.accounts, key, provider, rules)
        self.api = Api(
            self._routes(Versions(self.db, clock, vault), addresses, keys),
            self.access,
            settings.public_base_url,
            self.reads.usage.add_transfer,
            self.scopes,
            self.sign_in,
            self.audit_log,
        )
        self.proxy = Proxy()
        standby = Standby(self.db, clock, self.actors, self.tasks, self.starts, settings.max_concurrent_runs)
        self.standby_servers = StandbyServers(standby, self.access, self.proxy, self.signals)
        router = WebRouter(addresses, RunWebServers(WebServers(self.db), self.proxy), self.standby_servers)
        application = mount(self.api, self.events, _no_lifespan, router.find)
        # The inner one takes the client's address from X-Forwarded-For, the outer one needs the connection's own.
        forwarded: Any = ProxyHeadersMiddleware(
            cast("Any", application), os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
        )
        self.application = IdentityHeaders(
            forwarded,
            settings.sign_in_header,
            settings.sign_in_groups_header,
            settings.sign_in_proxies,
        )

    def _routes(self, versions: Versions, addresses: WebAddresses, keys: DeploymentKeys) -> list[Route]:
        logs = Logs(self.logs, Jobs(self.db, self.runs, self.builds))
        shapes = RunShapes(self.clock, addresses, self.prices)
        queueing = Queueing(self.db, self.clock, capacity_of(self.settings))
        runs = RunRoutes(self.starts, self.tasks, self.runs, queueing, self.actors, self.reads.usage, shapes, logs)
        limits = Limits(
            self.db,
            self.clock,
            self.reads.usage,
            capacity_of(self.settings),
            retention_days=self.settings.finished_run_days,
        )
        queues = RequestQueues(self.db, self.clock, self.reads)
        datasets = Datasets(self.db, self.clock, self.blobs, self.reads, self.merging, self.charging)
        metamorphs = Metamorphs(
            self.db,
            self.clock,
            self.signals,
            self.actors,
            self.builds,
            self.inputs,
            self.logs,
            self.run_settings,
            self.access.forget,
        )
        run_sync = RunSync(self.runs, self.records, datasets)
        storage_routes = [
            *DatasetRoutes(self.storages, datasets).routes(),
            *KeyValueStoreRoutes(self.storages, self.records).routes(),
            *RequestQueueRoutes(self.storages, queues).routes(),
        ]

        return [
            *AccountRoutes(self.accounts, limits, self.reads.usage, self.budgets).routes(),
            *TokenRoutes(self.accounts, self.scopes).routes(),
            *AuditLogRoutes(self.audit_log).routes(),
            *SignInRoutes(
                self.sign_in, self.accounts, self.audit_log, by_header=bool(self.settings.sign_in_header)
            ).routes(),
            *ActorRoutes(self.actors, addresses, versions, keys).routes(),
            *ToolRoutes(self.tools).routes(),
            *ApprovalRoutes(Approvals(self.db, self.clock), self.actors).routes(),
            *StoreRoutes(Store(self.db, self.clock)).routes(),
            *BuildRoutes(self.builds, self.actors, self.clock, logs, self.prices).routes(),
            *InputRoutes(self.inputs, self.actors, self.builds).routes(),
            *runs.routes(),
            *MetamorphRoutes(metamorphs, runs).routes(),
            *RunExtensionRoutes(self.migrations, RunBatches(self.runs), runs, self.actors, self.tasks).routes(),
            *TaskRoutes(self.tasks, self.accounts, addresses).routes(),
            *run_sync.routes("/v2/actors/{actorId}", "actor", runs.begin),
            *run_sync.routes("/v2/actor-tasks/{actorTaskId}", "actorTask", runs.begin_of_task),
            *ChargeRoutes(self.charging).routes(),
            *logs.routes(),
            *ScheduleRoutes(self.schedules).routes(),
            *WebhookRoutes(self.webhooks, self.actors, self.tasks).routes(),
            *storage_routes,
            *default_storages(storage_routes, runs),
            *health_api.routes(Health(self.db, self.clock, lambda: self.supervisor.live_count)),
        ]

    async def _after_deletion_of_actor(self, actor_id: str, build_ids: Sequence[str]) -> None:
        await self.runs.abort_runs_of(actor_id=actor_id)
        await self.builds.deleted_with_actor(build_ids)

    async def _abort_runs_of_task(self, task_id: str) -> None:
        await self.runs.abort_runs_of(task_id=task_id)

    async def _read_record(self, user_id: str, store_id: str, key: str) -> AsyncIterator[bytes] | None:
        owner = Principal(user_id, "", "builder")
        try:
            record = await self.records.get(owner, store_id, key)
        except ApiError:
            return None
        return decoded_chunks(await self.records.open_value(record), record.content_encoding)

    async def start(self) -> None:
        """Start everything, storage first."""
        await self.db.start()
        await self.blobs.start()
        await self.logs.start()
        await self.reads.start()
        await self.audit_log.start()
        await self.housekeeping.start()
        await self.merging.start()
        await self.retention.start()
        await self.proxy.start()
        await self.processes.open()
        await self.containers.open()
        await self.native_builder.open()
        await self.docker_builder.open()
        await self.standby_servers.start()
        await self.standby_retirement.start()
        await self.supervisor.start()
        await self.budgets.start()
        await self.child_aborts.start()
        await self.build_engine.start()
        await self.delivery.start()
        await self.scheduler.start()

    async def drain(self, window_secs: float) -> None:
        """Take every live run down with this server; the next start goes on with them."""
        await self.migrations.migrate_all(window_secs)
        await self.supervisor.drain()

    async def stop(self) -> None:
        """Stop everything, storage last. Live runs go on without a server."""
        await self.scheduler.stop()
        await self.delivery.stop()
        await self.build_engine.stop()
        await self.origins.close()
        await self.child_aborts.stop()
        await self.budgets.stop()
        await self.supervisor.stop()
        await self.standby_servers.stop()
        await self.standby_retirement.stop()
        await self.prober.stop()
        await self.events.stop()
        await self.proxy.stop()
        await self.native_builder.close()
        await self.containers.close()
        await self.processes.close()
        await self.retention.stop()
        await self.merging.stop()
        await self.housekeeping.stop()
        await self.audit_log.stop()
        await self.reads.stop()
        await self.blobs.stop()
        await self.logs.stop()
        await self.db.stop()


def _events_url(run: Run, api_base_url: str) -> str:
    return f"ws{api_base_url.removeprefix('http')}{EVENTS_PATH}{run.id}?secret={run.events_secret}"


async def _no_lifespan(_scope: Any, _receive: Any, _send: Any) -> None:
    raise RuntimeError("this application is started by Platform.start")
