"""The stock Python client: every call that is served, its answers validated by the client's own models."""

from __future__ import annotations

import datetime as dt
from datetime import timedelta

import pytest
from apify_client import ApifyClient
from apify_client.errors import ApifyApiError

from support.platform import TOKEN, Platform, python_actor, wait_for

pytestmark = [pytest.mark.xdist_group("client"), pytest.mark.timeout(200)]


@pytest.fixture
def client(platform: Platform) -> ApifyClient:
    return ApifyClient(TOKEN, api_url=platform.url, max_retries=1)


def test_user(client: ApifyClient) -> None:
    me = client.user().get()
    assert me is not None
    assert me.username == "admin"
    assert hasattr(me, "plan"), "the private form validates"
    assert me.effective_platform_features.actors.is_enabled
    other = client.user("admin").get()
    assert other is not None
    limits = client.user().limits()
    assert limits is not None
    assert limits.limits.max_actor_memory_gbytes > 0
    usage = client.user().monthly_usage()
    assert usage is not None
    assert usage.usage_cycle.start_at == limits.monthly_usage_cycle.start_at


def test_actors_versions_and_variables(client: ApifyClient) -> None:
    actor = client.actors().create(
        name="client-actor",
        title="Title",
        description="What it does",
        default_run_timeout=timedelta(seconds=100),
        default_run_memory_mbytes=512,
        versions=[{"versionNumber": "0.1", "sourceType": "SOURCE_FILES", "sourceFiles": []}],
    )
    assert actor.title == "Title"
    assert actor.default_run_options.memory_mbytes == 512
    mine = client.actor(actor.id)
    assert client.actor("admin/client-actor").get().id == actor.id
    assert client.actor("ADMIN~Client-Actor").get().id == actor.id
    assert client.actor("client-actor").get().id == actor.id
    changed = mine.update(title="New", is_public=False)
    assert (changed.title, changed.description) == ("New", "What it does")
    with pytest.raises(ApifyApiError) as error:
        client.actors().create(name="Client-Actor")
    assert (error.value.status_code, error.value.type) == (409, "actor-name-not-unique")
    for name in ("x", "-ab", "a_b", "a" * 64):
        with pytest.raises(ApifyApiError) as error:
            client.actors().create(name=name)
        assert error.value.status_code == 400

    version = mine.versions().create(
        version_number="0.2",
        build_tag="beta",
        source_type="SOURCE_FILES",
        source_files=[{"name": "a.txt", "format": "TEXT", "content": "x"}],
        env_vars=[{"name": "A", "value": "1"}],
    )
    assert version.build_tag == "beta"
    assert [item.version_number for item in mine.versions().list().items] == ["0.1", "0.2"]
    with pytest.raises(ApifyApiError) as error:
        mine.versions().create(version_number="0.2", source_type="SOURCE_FILES", source_files=[])
    assert (error.value.status_code, error.value.type) == (403, "version-already-exists")
    updated = mine.version("0.2").update(build_tag="gamma", source_type="SOURCE_FILES")
    assert updated.build_tag == "gamma"
    env_vars = mine.version("0.2").env_vars()
    secret = env_vars.create(name="S", value="hidden", is_secret=True)
    assert secret.value is None
    assert mine.version("0.2").env_var("S").update(name="S", value="other", is_secret=True).name == "S"
    assert {item.name for item in env_vars.list().items} == {"A", "S"}
    mine.version("0.2").env_var("A").delete()
    assert mine.version("0.2").env_var("A").get() is None
    mine.version("0.2").delete()
    assert mine.version("0.2").get() is None
    assert actor.id in {item.id for item in client.actors().list(my=True).items}
    mine.delete()
    assert mine.get() is None


def test_builds(client: ApifyClient, platform: Platform) -> None:
    sources = [{"name": name, "format": "TEXT", "content": text} for name, text in python_actor("print(1)").items()]
    version = {"versionNumber": "1.2", "sourceType": "SOURCE_FILES", "buildTag": "latest", "sourceFiles": sources}
    actor = client.actor(client.actors().create(name="client-build", versions=[version]).id)
    started = actor.build(version_number="1.2", tag="extra", use_cache=True)
    assert started.build_number == "1.2.1"
    build = client.build(started.id).wait_for_finish()
    assert build.status == "SUCCEEDED", client.log(started.id).get()
    assert build.meta.origin == "API"
    assert "Step 1/3" in (client.build(build.id).log().get() or "")
    tagged = actor.get().tagged_builds
    assert tagged["extra"].build_id == build.id
    assert actor.default_build is not None
    assert [item.id for item in client.builds().list(desc=True, limit=1).items] == [build.id]
    assert [item.id for item in actor.builds().list().items] == [build.id]
    assert client.build(build.id).abort().status == "SUCCEEDED", "a finished build stays as it is"
    second = client.build(actor.build(version_number="1.2", tag="other").id).wait_for_finish()
    assert second.build_number == "1.2.2"
    with pytest.raises(ApifyApiError) as error:
        actor.build(version_number="7.7")
    assert error.value.status_code == 404
    client.build(second.id).delete()
    assert client.build(second.id).get() is None
    third = client.build(actor.build(version_number="1.2").id).wait_for_finish()
    assert third.build_number == "1.2.3", "numbers are never given out twice"
    with pytest.raises(ApifyApiError) as error:
        client.build(third.id).delete()
    assert error.value.type == "deleting-default-build"


def test_run_life(client: ApifyClient, echo: str) -> None:
    actor = client.actor(echo)
    run = actor.call(
        run_input={"a": 1}, memory_mbytes=256, run_timeout=timedelta(seconds=60), wait_duration=timedelta(seconds=60)
    )
    assert run is not None
    assert (run.status, run.exit_code) == ("SUCCEEDED", 0)
    assert run.options.memory_mbytes == 256
    assert run.options.disk_mbytes == 512
    assert run.stats.compute_units == pytest.approx(256 / 1024 * run.stats.duration_millis / 3_600_000)
    assert run.finished_at > run.started_at
    assert run.usage.actor_compute_units == run.stats.compute_units
    one = client.run(run.id)
    assert one.get().id == run.id
    assert one.dataset().get().id == run.default_dataset_id
    assert one.key_value_store().get_record("INPUT")["value"] == {"a": 1}
    assert one.request_queue().get().id == run.default_request_queue_id
    assert "hello" in (one.log().get() or "")
    assert b"hello" in one.log().get_as_bytes(raw=True)
    with one.log().stream(raw=True) as stream:
        assert stream is not None
        assert b"hello" in b"".join(stream.iter_bytes())
    assert one.update(status_message="Done", is_status_message_terminal=True).status_message == "Done"
    assert one.abort().status == "SUCCEEDED"
    assert actor.last_run().get().id == run.id
    assert actor.last_run(status="SUCCEEDED", origin="API").dataset().get().id == run.default_dataset_id
    assert actor.last_run(status="TIMED-OUT").get() is None
    resurrected = one.resurrect(memory_mbytes=128)
    assert resurrected.status == "READY"
    again = one.wait_for_finish()
    assert (again.status, again.stats.resurrect_count, again.options.memory_mbytes) == ("SUCCEEDED", 1, 128)
    assert again.started_at == run.started_at
    one.delete()
    assert one.get() is None
    assert client.dataset(run.default_dataset_id).get() is None


def test_lists_of_runs(client: ApifyClient, echo: str) -> None:
    actor = client.actor(echo)
    runs = [actor.call(memory_mbytes=128, logger=None) for _ in range(3)]
    newest = [item.id for item in actor.runs().list(desc=True, limit=3).items]
    assert newest == [run.id for run in reversed(runs)]
    second = actor.runs().list(desc=True, limit=1, offset=1)
    assert [item.id for item in second.items] == [runs[1].id]
    assert second.total >= 3
    found = client.runs().list(status=["SUCCEEDED", "FAILED"], limit=1000).items
    assert {run.id for run in runs} <= {item.id for item in found}
    after = client.runs().list(started_after=runs[1].started_at, limit=1000).items
    assert runs[0].id not in {item.id for item in after}
    before = client.runs().list(started_before=runs[0].started_at - dt.timedelta(seconds=1), limit=1000).items
    assert runs[0].id not in {item.id for item in before}


def test_abort_both_ways(client: ApifyClient, platform: Platform, sleeper: str) -> None:
    for gracefully in (False, True):
        run = client.actor(sleeper).start(memory_mbytes=128)
        wait_for(lambda run=run: "ready" in platform.log_lines(run.id))
        answered = client.run(run.id).abort(gracefully=gracefully)
        assert answered.status in ("ABORTING", "ABORTED")
        if gracefully:
            assert client.run(run.id).abort(gracefully=True).status == "ABORTING"
            client.run(run.id).abort()
        ended = client.run(run.id).wait_for_finish()
        assert (ended.status, ended.exit_code) == ("ABORTED", 137)
    rebooted = client.actor(sleeper).start(memory_mbytes=128)
    wait_for(lambda: "ready" in platform.log_lines(rebooted.id))
    client.run(rebooted.id).reboot()
    wait_for(lambda: platform.log_lines(rebooted.id).count("ready") == 2)
    assert client.run(rebooted.id).get().stats.reboot_count == 1
    client.run(rebooted.id).abort()
    assert client.run(rebooted.id).wait_for_finish().status == "ABORTED"


def test_log_streaming_ends_with_the_run(client: ApifyClient, platform: Platform) -> None:
    code = "import time\nfor n in range(20):\n    print('n', n)\n    time.sleep(0.02)\n"
    actor = platform.build_actor("streamer", python_actor(code))
    run = client.actor(actor).start(memory_mbytes=128)
    with client.run(run.id).log().stream(raw=True) as stream:
        assert stream is not None
        text = b"".join(stream.iter_bytes()).decode()
    assert [line.partition("Z ")[2] for line in text.splitlines()] == [f"n {n}" for n in range(20)]
    assert client.run(run.id).get().status == "SUCCEEDED", "the stream ends when the run does"


def test_request_queue_of_the_client(client: ApifyClient) -> None:
    queue = client.request_queues().get_or_create(name="client-queue")
    one = client.request_queue(queue.id, client_key="k" * 10)
    added = one.add_request({"url": "http://x/1", "uniqueKey": "1", "userData": {"a": [1]}})
    assert not added.was_already_present
    batch = one.batch_add_requests([{"url": f"http://x/{n}", "uniqueKey": str(n)} for n in range(1, 60)])
    assert len(batch.processed_requests) == 59
    assert one.get_request(added.request_id).user_data.model_dump()["a"] == [1]
    head = one.list_head(limit=3)
    assert [item.unique_key for item in head.items] == ["1", "2", "3"]
    locked = one.list_and_lock_head(lock_duration=timedelta(seconds=60), limit=2)
    assert [item.unique_key for item in locked.items] == ["1", "2"]
    one.prolong_request_lock(added.request_id, lock_duration=timedelta(seconds=90))
    one.delete_request_lock(added.request_id)
    assert one.unlock_requests().unlocked_count == 1
    one.update_request(
        {"id": added.request_id, "url": "http://x/1", "uniqueKey": "1", "handledAt": dt.datetime.now(dt.UTC)}
    )
    info = one.get()
    assert (info.total_request_count, info.handled_request_count, info.pending_request_count) == (59, 1, 58)
    assert len(one.list_requests(limit=1000).items) == 59
    one.batch_delete_requests([{"uniqueKey": "5"}, {"uniqueKey": "6"}])
    one.delete_request(added.request_id)
    assert one.get_request(added.request_id) is None
    assert one.get().total_request_count == 56
    one.delete()
