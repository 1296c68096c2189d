"""Charging and usage with the stock Python SDK in real runs, and with the stock client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apify_client import ApifyClient
from apify_client.errors import ApifyApiError

from support.counting_proxy import CountingProxy
from support.platform import TOKEN, Platform, python_actor

pytestmark = [pytest.mark.xdist_group("sdk-charging"), pytest.mark.timeout(400)]

ITEM, START = "apify-default-dataset-item", "apify-actor-start"
_PRICES = "ACTOR_COMPUTE_UNITS=0.3,DATASET_WRITES=0.000005,KEY_VALUE_STORE_WRITES=0.00005,REQUEST_QUEUE_WRITES=0.00002"
_FUTURE = "from __future__ import annotations\n"
_CODE = (Path(__file__).parent / "charging_actor.py").read_text()


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    found = Platform(
        tmp_path_factory.mktemp("charging") / "data",
        "--set",
        f"usage_prices_usd={_PRICES}",
        "--set",
        "abort_grace_secs=20",
    ).start()
    found.first_token()
    yield found
    found.stop()


def files(code: str) -> dict[str, str]:
    return {
        "Dockerfile": "FROM apify/actor-python:3.11\nCOPY requirements.txt ./\nRUN pip install -r requirements.txt\n"
        'COPY . ./\nCMD ["python", "main.py"]\n',
        "requirements.txt": "apify>=4.1,<5\ncrawlee>=1.11,<2\n",
        "main.py": code,
    }


@pytest.fixture(scope="session")
def actor(platform: Platform) -> str:
    return platform.build_actor("charging", files(_CODE))


def priced(platform: Platform, actor: str, **events: float) -> None:
    """Pay per event from now on."""
    declared = {
        name.replace("_", "-"): {"eventTitle": name, "eventDescription": f"One {name}", "eventPriceUsd": usd}
        for name, usd in events.items()
    }
    info = {"pricingModel": "PAY_PER_EVENT", "pricingPerEvent": {"actorChargeEvents": declared}}
    current = platform.call("GET", f"/v2/actors/{actor}")["pricingInfos"]
    platform.call("PUT", f"/v2/actors/{actor}", {"pricingInfos": [*current, info]})


def ended(platform: Platform, actor: str, actor_input: dict[str, Any], query: str = "") -> dict[str, Any]:
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=512{query}", actor_input)
    return platform.ended(run["id"])


def said(platform: Platform, run: dict[str, Any]) -> dict[str, Any]:
    """What the Actor told in its OUTPUT."""
    store = run["defaultKeyValueStoreId"]
    found: dict[str, Any] = platform.call("GET", f"/v2/key-value-stores/{store}/records/OUTPUT")
    return found


def test_an_actor_without_prices(platform: Platform, actor: str) -> None:
    run = ended(platform, actor, {"scenario": "unpriced"})
    assert run["status"] == "SUCCEEDED", "\n".join(platform.log_lines(run["id"])[-25:])
    assert said(platform, run) == {"is_pay_per_event": False, "charged": 0}


def test_charges_of_the_sdk(platform: Platform, actor: str) -> None:
    priced(platform, actor, page=0.1, result=0.01, apify_default_dataset_item=0.001, apify_actor_start=0.005)
    run = ended(platform, actor, {"scenario": "charge"}, "&maxTotalChargeUsd=10")
    assert run["status"] == "SUCCEEDED", "\n".join(platform.log_lines(run["id"])[-25:])
    counts = {"page": 5, "result": 3, ITEM: 4, START: 1}
    assert run["chargedEventCounts"] == counts
    told = said(platform, run)
    assert told["is_pay_per_event"] is True
    assert told["prices"] == {"page": 0.1, "result": 0.01, ITEM: 0.001, START: 0.005}
    assert told["before"] == {"page": 0, START: 1}, "the start is charged before the Actor looks"
    assert told["total_usd"] == pytest.approx(0.539)
    assert run["usageTotalUsd"] == pytest.approx(0.539)
    assert run["eventUsage"]["page"] == {"eventTitle": "page", "eventTotalUsd": 0.5}
    platform.call("POST", f"/v2/actor-runs/{run['id']}/resurrect")
    again = platform.ended(run["id"])
    assert again["chargedEventCounts"] == {"page": 10, "result": 6, ITEM: 8, START: 2}
    assert said(platform, again)["before"] == {"page": 5, START: 2}, "counts go on"


def test_the_sdk_stops_at_the_limit_and_the_run_is_aborted(platform: Platform, actor: str) -> None:
    priced(platform, actor, page=0.1)
    run = ended(platform, actor, {"scenario": "limit"}, "&maxTotalChargeUsd=0.5")
    assert run["status"] == "ABORTED", "\n".join(platform.log_lines(run["id"])[-25:])
    assert run["chargedEventCounts"] == {"page": 5}
    assert "maximum cost" in run["statusMessage"]
    assert run["chargingStoppedAt"] is not None
    told = said(platform, run)
    assert (told["charged"], told["reached"], told["max_usd"]) == (5, True, 0.5)


def test_items_beyond_the_limit_are_not_pushed_by_the_sdk(platform: Platform, actor: str) -> None:
    priced(platform, actor, apify_default_dataset_item=0.1, result=0.1)
    run = ended(platform, actor, {"scenario": "push"}, "&maxTotalChargeUsd=1")
    assert run["chargedEventCounts"] == {ITEM: 5, "result": 5}
    assert (run["status"], run["usageTotalUsd"]) == ("ABORTED", 1.0)
    assert platform.call("GET", f"/v2/datasets/{run['defaultDatasetId']}")["itemCount"] == 5


def test_the_stock_client_charges_with_the_runs_token_only(platform: Platform, actor: str) -> None:
    priced(platform, actor, page=0.1)
    run = ended(platform, actor, {"scenario": "client"})
    assert run["status"] == "SUCCEEDED", "\n".join(platform.log_lines(run["id"])[-25:])
    assert run["chargedEventCounts"] == {"page": 3}
    with pytest.raises(ApifyApiError) as refused:
        ApifyClient(TOKEN, api_url=platform.url, max_retries=0).run(run["id"]).charge("page")
    assert (refused.value.status_code, refused.value.type) == (403, "insufficient-permissions")


def test_the_stock_client_sees_prices_and_costs(platform: Platform, actor: str) -> None:
    priced(platform, actor, page=0.1)
    client = ApifyClient(TOKEN, api_url=platform.url, max_retries=0)
    started = client.actor(actor).start(run_input={"scenario": "client"}, memory_mbytes=512)
    run = client.run(started.id).wait_for_finish()
    assert run.pricing_info.pricing_model == "PAY_PER_EVENT"
    assert run.charged_event_counts == {"page": 3}
    assert run.usage_total_usd == pytest.approx(0.3)
    listed = client.actor(actor).runs().list(desc=True, limit=1).items[0]
    assert (listed.id, listed.usage_total_usd) == (run.id, run.usage_total_usd)
    assert (
        client.actor(actor).get().pricing_infos[-1].pricing_per_event.actor_charge_events["page"].event_price_usd == 0.1
    )


def test_usage_is_what_a_proxy_between_sdk_and_server_counted(platform: Platform) -> None:
    proxy = CountingProxy(platform.url)
    code = f"import os\nos.environ['APIFY_API_BASE_URL'] = {proxy.url!r}\n{_CODE.replace(_FUTURE, '')}"
    try:
        run = ended(platform, platform.build_actor("worker", files(code)), {"scenario": "work"})
    finally:
        proxy.stop()
    assert run["status"] == "SUCCEEDED", "\n".join(platform.log_lines(run["id"])[-25:])
    assert len(proxy.usage) == 1, "only the run's token went through the proxy"
    (token, counted), *_ = proxy.usage.items()
    found = {name: value for name, value in run["usage"].items() if value}
    assert found.pop("ACTOR_COMPUTE_UNITS") == run["stats"]["computeUnits"]
    assert found.pop("DATA_TRANSFER_INTERNAL_GBYTES") == proxy.body_bytes[token] / 10**9
    assert found == dict(counted), proxy.calls
    assert {"DATASET_WRITES", "DATASET_READS", "KEY_VALUE_STORE_WRITES", "REQUEST_QUEUE_WRITES"} <= set(found)
    again = platform.run(run["id"])
    assert again["usage"] == run["usage"], "final at the end"


def test_a_budget_ends_a_run_that_does_nothing(platform: Platform) -> None:
    actor = platform.build_actor("spender", python_actor("import time\nprint('ready', flush=True)\ntime.sleep(600)\n"))
    run = platform.call("POST", f"/v2/actors/{actor}/runs?memory=1024&maxTotalUsageUsd=0.0001")
    done = platform.ended(run["id"])
    assert done["status"] == "ABORTED"
    assert "maxTotalUsageUsd" in done["statusMessage"]
    assert done["usageTotalUsd"] >= 0.0001
