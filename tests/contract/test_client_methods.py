"""The stock Python client in both forms: every method of every resource but the storages, answers in its own models.

What the methods mean is proved by the other tests; here none is forgotten, also of a version that is still to come.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from apify_client._status_message_watcher import StatusMessageWatcherBase
from apify_client.errors import ApifyApiError

from support.client_actor import FILES, PRICES
from support.client_methods import Method, Recorded, methods_of
from support.platform import TOKEN, Platform, wait_for
from support.stock_clients import FORMS, stock_clients

pytestmark = [pytest.mark.xdist_group("client"), pytest.mark.timeout(200)]


class Story:
    """A client of one form, and what it has called."""

    def __init__(self, make: Callable[[str | None], Any], platform: Platform, form: str) -> None:
        self.called: set[Method] = set()
        self.platform = platform
        self.name = f"methods-{form}"
        self._make = make
        self.client = self.client_of(TOKEN)

    def client_of(self, token: str) -> Any:
        return Recorded(self._make(token), self.called)


@pytest.fixture(params=FORMS)
def story(request: pytest.FixtureRequest, platform: Platform) -> Iterator[Story]:
    with stock_clients(request.param, platform.url) as make:
        yield Story(make, platform, request.param)


def test_every_method_works(story: Story, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(StatusMessageWatcherBase, "_final_sleep_time_s", 0)
    actor_id = actors_and_versions(story)
    builds(story, actor_id)
    runs(story, actor_id)
    charging(story, actor_id)
    tasks(story, actor_id)
    automation(story, actor_id)
    users_and_store(story, actor_id)
    story.client.actor(actor_id).delete()
    assert story.client.actor(actor_id).get() is None
    assert methods_of(request.node.callspec.params["story"]) - story.called == set()


def actors_and_versions(story: Story) -> str:
    client = story.client
    files = FILES
    sources = [{"name": name, "format": "TEXT", "content": text} for name, text in files.items()]
    made = client.actors().create(
        name=story.name,
        title="Methods",
        description="Has all of them",
        seo_title="S",
        seo_description="D",
        versions=[{"versionNumber": "0.1", "sourceType": "SOURCE_FILES", "sourceFiles": sources}],
        categories=["OTHER"],
        restart_on_error=False,
        is_public=False,
        is_deprecated=False,
        default_run_build="latest",
        default_run_memory_mbytes=128,
        default_run_timeout=timedelta(seconds=300),
        example_run_input_body="{}",
        example_run_input_content_type="application/json",
        actor_standby_is_enabled=True,
        actor_standby_memory_mbytes=256,
        actor_permission_level="FULL_PERMISSIONS",
    )
    actor = client.actor(made.id)
    assert actor.get() == made
    assert (made.actor_standby.memory_mbytes, made.default_run_options.memory_mbytes) == (256, 128)
    assert made.id in {item.id for item in client.actors().list(my=True, limit=1000).items}
    assert made.id in {item.id for item in client.actors().iterate(my=True, sort_by="stats.lastRunStartedAt")}
    changed = actor.update(is_public=True, actor_standby_is_enabled=False, default_run_memory_mbytes=256)
    assert (changed.is_public, changed.default_run_options.memory_mbytes) == (True, 256)

    version = actor.versions().create(
        version_number="0.2",
        build_tag="beta",
        source_type="SOURCE_FILES",
        source_files=sources,
        env_vars=[{"name": "PLAIN", "value": "1"}],
        apply_env_vars_to_build=True,
    )
    two = actor.version("0.2")
    assert two.get() == version
    assert [item.version_number for item in actor.versions().list().items] == ["0.1", "0.2"]
    assert [item.version_number for item in actor.versions().iterate()] == ["0.1", "0.2"]
    assert two.update(build_tag="gamma", source_type="SOURCE_FILES").build_tag == "gamma"
    variables = two.env_vars()
    assert variables.create(name="SECRET", value="hidden", is_secret=True).value is None
    assert {item.name for item in variables.list().items} == {"PLAIN", "SECRET"}
    assert {item.name for item in variables.iterate()} == {"PLAIN", "SECRET"}
    plain = two.env_var("PLAIN")
    assert plain.get().value == "1"
    assert plain.update(name="PLAIN", value="2").value == "2"
    plain.delete()
    assert plain.get() is None
    two.delete()
    assert two.get() is None
    return str(made.id)


def builds(story: Story, actor_id: str) -> None:
    client, actor = story.client, story.client.actor(actor_id)
    built = client.build(actor.build(version_number="0.1", tag="latest", use_cache=True).id).wait_for_finish()
    assert built.status == "SUCCEEDED", client.log(built.id).get()
    one = client.build(built.id)
    assert one.get() == built
    assert one.abort() == built
    assert "Step 1/3" in one.log().get()
    assert actor.default_build().get() == built
    assert [item.id for item in actor.builds().list().items] == [built.id]
    assert built.id in {item.id for item in client.builds().list(desc=True, limit=10).items}
    assert built.id in {item.id for item in client.builds().iterate(desc=True, limit=10)}
    assert one.get_open_api_definition()["info"]["x-build-id"] == built.id
    other = client.build(actor.build(version_number="0.1", tag="other", use_cache=True).id)
    other.wait_for_finish()
    other.delete()
    assert other.get() is None


def runs(story: Story, actor_id: str) -> None:
    client, actor = story.client, story.client.actor(actor_id)
    assert actor.validate_input({"wait": True}) is True
    with pytest.raises(ApifyApiError) as refused:
        actor.validate_input({"wait": "yes"})
    assert refused.value.type == "invalid-input"
    run = actor.call(run_input={}, memory_mbytes=128, run_timeout=timedelta(seconds=100), logger=None)
    assert (run.status, run.options.timeout_secs) == ("SUCCEEDED", 100)
    one = client.run(run.id)
    assert one.get() == run
    assert one.dataset().get().item_count == 2
    assert one.key_value_store().get_record("INPUT")["value"] == {}
    assert one.request_queue().get().id == run.default_request_queue_id
    assert list(one.iterate_dataset_items()) == [{"n": 1}, {"n": 2}]
    log = one.log()
    assert "ready" in log.get()
    assert b"ready" in log.get_as_bytes(raw=True)
    with log.stream(raw=True) as stream:
        assert b"ready" in b"".join(stream.iter_bytes())
    assert one.update(status_message="Done", is_status_message_terminal=True).status_message == "Done"
    assert actor.last_run(status="SUCCEEDED", origin="API").get().id == run.id
    assert run.id in {item.id for item in actor.runs().list(status=["SUCCEEDED"]).items}
    assert run.id in {item.id for item in client.runs().list(started_after=run.started_at, limit=1000).items}
    assert run.id in {item.id for item in client.runs().iterate(limit=10, desc=True)}

    live = actor.start(run_input={"wait": True}, memory_mbytes=128, wait_for_finish=0)
    two = client.run(live.id)
    wait_for(lambda: "ready" in (two.log().get() or ""))
    heard = Heard()
    watching = two.get_status_message_watcher(to_logger=heard.logger, check_period=timedelta(milliseconds=50))
    with two.get_streamed_log(heard.logger), watching:
        # The async form hears something only while a call is under way.
        wait_for(lambda: two.get() and heard.has("Status: RUNNING"))
        two.reboot()
        wait_for(lambda: two.log().get().count("ready") == 2)
        assert two.metamorph(target_actor_id=actor_id, run_input={"wait": True}).id == live.id
        wait_for(lambda: two.log().get().count("ready") == 3 and heard.has("ready"))
        assert two.abort(gracefully=False).status in ("ABORTING", "ABORTED")
    assert two.wait_for_finish().status == "ABORTED"
    assert two.resurrect(memory_mbytes=256, run_timeout=timedelta(seconds=50)).options.memory_mbytes == 256
    two.abort()
    assert two.wait_for_finish().stats.resurrect_count == 1
    two.delete()
    assert two.get() is None


class Heard:
    """A logger, and what was said to it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self.logger = logging.Logger("heard")
        handler = logging.Handler()
        handler.emit = lambda record: self._lines.append(record.getMessage())
        self.logger.addHandler(handler)

    def has(self, text: str) -> bool:
        return any(text in line for line in self._lines)


def charging(story: Story, actor_id: str) -> None:
    """Only a run's own token may charge; it is only used while the run lives."""
    client, actor = story.client, story.client.actor(actor_id)
    priced = actor.update(pricing_infos=[PRICES])
    assert priced.pricing_infos[0].pricing_model == "PAY_PER_EVENT"
    run = client.run(actor.start(run_input={"wait": True}, memory_mbytes=128).id)
    wait_for(lambda: "ready" in (run.log().get() or ""))
    token = run.key_value_store().get_record("TOKEN")["value"]
    story.client_of(token).run(run.get().id).charge("seen", count=3)
    assert run.get().charged_event_counts == {"seen": 3}
    run.abort()
    run.wait_for_finish()


def tasks(story: Story, actor_id: str) -> None:
    client = story.client
    made = client.tasks().create(
        actor_id=actor_id,
        name=f"{story.name}-task",
        title="Title",
        description="What it does",
        memory_mbytes=128,
        run_timeout=timedelta(seconds=60),
        task_input={"wait": False},
        public_config_seo_description="For search engines",
        public_config_input_schema_fields=["wait"],
    )
    task = client.task(made.id)
    assert task.get() == made
    assert made.id in {item.id for item in client.tasks().list(limit=1000).items}
    assert made.id in {item.id for item in client.tasks().iterate(desc=True)}
    with pytest.raises(ApifyApiError) as refused:
        task.publish()
    assert (refused.value.status_code, refused.value.type) == (400, "cannot-publish-actor-task")
    changed = task.update(title="Other", public_config_dataset_view="all", restart_on_error=False)
    assert (changed.title, changed.public_config.dataset_view) == ("Other", "all")
    published = task.publish()
    assert published.is_public is True
    assert published.public_config.published_at is not None
    withdrawn = task.unpublish()
    assert (withdrawn.is_public, withdrawn.public_config.published_at) == (False, None)
    assert task.get_input() == {"wait": False}
    assert task.update_input(task_input={"more": [1]}) == {"wait": False, "more": [1]}
    started = task.start(memory_mbytes=256)
    assert client.run(started.id).wait_for_finish().options.memory_mbytes == 256
    called = task.call(task_input={"own": True})
    assert (called.status, called.actor_task_id) == ("SUCCEEDED", made.id)
    assert task.last_run(status="SUCCEEDED").get().id == called.id
    assert [item.id for item in task.runs().list(desc=True).items] == [called.id, started.id]
    assert [item.id for item in task.runs().iterate()] == [started.id, called.id]
    assert task.webhooks().list().items == []
    task.delete()
    assert task.get() is None


def automation(story: Story, actor_id: str) -> None:
    client = story.client
    hook = client.webhooks().create(
        event_types=["ACTOR.RUN.SUCCEEDED"], request_url="http://127.0.0.1:9/", actor_id=actor_id, do_not_retry=True
    )
    one = client.webhook(hook.id)
    assert one.get() == hook
    assert [item.id for item in client.actor(actor_id).webhooks().list().items] == [hook.id]
    assert [item.id for item in client.actor(actor_id).webhooks().iterate()] == [hook.id]
    assert hook.id in {item.id for item in client.webhooks().list(limit=1000).items}
    assert one.update(description="Other", should_interpolate_strings=True).description == "Other"
    dispatch = one.test()
    assert client.webhook_dispatch(dispatch.id).get().webhook_id == hook.id
    assert [item.id for item in one.dispatches().list().items] == [dispatch.id]
    assert dispatch.id in {item.id for item in client.webhook_dispatches().iterate(desc=True, limit=100)}
    one.delete()
    assert one.get() is None

    schedule = client.schedules().create(
        cron_expression="@yearly",
        is_enabled=True,
        is_exclusive=True,
        name=story.name,
        actions=[{"type": "RUN_ACTOR", "actorId": actor_id}],
    )
    yearly = client.schedule(schedule.id)
    assert yearly.get() == schedule
    assert schedule.id in {item.id for item in client.schedules().list().items}
    assert schedule.id in {item.id for item in client.schedules().iterate(desc=True)}
    assert yearly.update(timezone="Asia/Tokyo", is_enabled=False).timezone == "Asia/Tokyo"
    assert yearly.get_log() == []
    yearly.delete()
    assert yearly.get() is None


def users_and_store(story: Story, actor_id: str) -> None:
    client, me = story.client, story.client.user()
    assert me.get().plan is not None
    assert client.user("admin").get().username == "admin"
    assert me.monthly_usage().daily_service_usages is not None
    before = me.limits().limits.data_retention_days
    me.update_limits(data_retention_days=30)
    assert me.limits().limits.data_retention_days == 30
    me.update_limits(data_retention_days=before)
    found = client.store().list(search=story.name, sort_by="newest", pricing_model="PAY_PER_EVENT").items
    assert [item.id for item in found] == [actor_id]
    (item,) = found
    assert item.stats.public_actor_run_stats30_days.total == 0, "only the owner has run it"
    assert actor_id in {item.id for item in client.store().iterate(category="OTHER", username="admin")}
