"""Actors that behave badly: they are contained, ended as a whole, and their logs stay readable."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.platform import Platform, Refused, processes_of, python_actor, wait_for

pytestmark = [pytest.mark.xdist_group("ugly"), pytest.mark.timeout(300)]

_TREE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.write(1, b"grandchild\\n")
            time.sleep(1000)
        os._exit(0)
os.write(1, b"ready\\n")
for fd in (0, 1, 2):
    os.close(fd)
time.sleep(1000)
"""


def start(platform: Platform, name: str, code: str, query: str = "memory=128") -> str:
    actor = platform.build_actor(name, python_actor(code))
    return str(platform.call("POST", f"/v2/actors/{actor}/runs?{query}")["id"])


def test_a_tree_that_ignores_everything_is_gone_after_an_abort(platform: Platform) -> None:
    run_id = start(platform, "tree", _TREE)
    wait_for(lambda: platform.log_lines(run_id).count("grandchild") == 4 or platform.run(run_id)["finishedAt"])
    assert platform.run(run_id)["status"] == "RUNNING", (platform.run(run_id), platform.log_lines(run_id))
    assert len(processes_of(run_id)) == 5
    platform.call("POST", f"/v2/actor-runs/{run_id}/abort")
    assert platform.ended(run_id)["status"] == "ABORTED"
    assert processes_of(run_id) == []


def test_what_a_finished_process_leaves_behind_is_ended(platform: Platform) -> None:
    code = _TREE.partition('os.write(1, b"ready')[0] + "time.sleep(0.3)\n"
    run_id = start(platform, "leaver", code)
    ended = platform.ended(run_id)
    assert (ended["status"], ended["exitCode"]) == ("SUCCEEDED", 0)
    assert processes_of(run_id) == []


def test_a_timeout_ends_the_tree(platform: Platform) -> None:
    run_id = start(platform, "late", "import time\nprint('x')\ntime.sleep(600)\n", "memory=128&timeout=1")
    ended = platform.ended(run_id)
    assert ended["status"] == "TIMED-OUT"
    assert "1 second" in ended["statusMessage"]
    assert processes_of(run_id) == []


def test_memory_over_the_limit_is_ended_and_named(platform: Platform) -> None:
    code = "import time\nkept = []\nwhile True:\n    kept.append(bytearray(2_000_000))\n    time.sleep(0.005)\n"
    run_id = start(platform, "hungry", code)
    ended = platform.ended(run_id)
    assert (ended["status"], ended["exitCode"]) == ("FAILED", 137)
    assert "ran out of memory" in ended["statusMessage"]
    assert any("ran out of memory" in line for line in platform.log_lines(run_id))
    assert ended["stats"]["memMaxBytes"] > 100_000_000


def test_a_hundred_megabytes_without_a_newline(platform: Platform) -> None:
    """The log is cut at its limit with one notice; the server keeps answering."""
    code = "import os\nfor _ in range(1600):\n    os.write(1, b'x' * 65536)\n"
    run_id = start(platform, "flood", code)
    ended = platform.ended(run_id)
    assert ended["status"] == "SUCCEEDED"
    text = platform.call("GET", f"/v2/logs/{run_id}?raw=1")
    assert 6 * 2**20 < len(text) < 9 * 2**20
    assert "ACTOR: The log is longer" in text.splitlines()[-1]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", line) for line in text.splitlines())


def test_bytes_that_are_no_text(platform: Platform) -> None:
    code = "import os\nos.write(1, b'caf\\xc3\\xa9 \\xff\\xfe ok\\r\\nbell\\x07 \\x1b[31mred\\x1b[0m\\n')\n"
    run_id = start(platform, "bytes", code)
    platform.ended(run_id)
    assert platform.log_lines(run_id) == ["caf\u00e9 \ufffd\ufffd ok", "bell\x07 \x1b[31mred\x1b[0m"]
    clean = platform.call("GET", f"/v2/logs/{run_id}").splitlines()
    assert clean[1].endswith("bell red")


def test_secrets_are_not_in_the_log(platform: Platform) -> None:
    code = "import os\nprint(os.environ['PASSPHRASE'], os.environ['APIFY_TOKEN'], os.environ['PLAIN'])\n"
    sources = [{"name": name, "content": text} for name, text in python_actor(code).items()]
    env_vars = [
        {"name": "PASSPHRASE", "value": "open-sesame-42", "isSecret": True},
        {"name": "PLAIN", "value": "visible"},
        {"name": "APIFY_TOKEN", "value": "mine", "isSecret": True},
    ]
    version = {
        "versionNumber": "0.0",
        "sourceType": "SOURCE_FILES",
        "buildTag": "latest",
        "sourceFiles": sources,
        "envVars": env_vars,
    }
    actor = platform.call("POST", "/v2/actors", {"name": "secretive", "versions": [version]})
    build = platform.call("POST", f"/v2/actors/{actor['id']}/builds?version=0.0&waitForFinish=60")
    assert build["status"] == "SUCCEEDED"
    run = platform.call("POST", f"/v2/actors/{actor['id']}/runs?memory=128")
    platform.ended(run["id"])
    (line,) = platform.log_lines(run["id"])
    assert line.endswith("visible")
    assert "open-sesame-42" not in line
    assert "actorium_run_" not in line
    shown = platform.call("GET", f"/v2/actors/{actor['id']}/versions/0.0")["envVars"]
    assert "open-sesame-42" not in str(shown)
    database = (platform.data_dir / "actorium.db").read_bytes() + (platform.data_dir / "actorium.db-wal").read_bytes()
    assert b"open-sesame-42" not in database


def test_a_run_token_dies_with_its_run(platform: Platform) -> None:
    code = (
        "import os, time\nopen(os.path.expanduser('~/token'), 'w').write(os.environ['APIFY_TOKEN'])\n"
        "print(os.path.expanduser('~/token'), flush=True)\ntime.sleep(600)\n"
    )
    run_id = start(platform, "token", code)
    wait_for(lambda: platform.log_lines(run_id))
    token = Path(platform.log_lines(run_id)[0]).read_text()
    assert platform.call("GET", f"/v2/actor-runs/{run_id}", token=token)["id"] == run_id
    me = platform.call("GET", "/v2/users/me", token=token)
    assert "email" not in me
    with pytest.raises(Refused):
        platform.call("GET", "/v2/users/me", token=token[:-1] + ("A" if token[-1] != "A" else "B"))
    platform.call("POST", f"/v2/actor-runs/{run_id}/abort", token=token)
    assert platform.ended(run_id)["status"] == "ABORTED"


def test_a_fork_bomb_is_ended(platform: Platform) -> None:
    code = (
        "import os, time\nprint('boom', flush=True)\n"
        "for _ in range(7):\n    os.fork()\nwhile True:\n    time.sleep(0.01)\n"
    )
    run_id = start(platform, "bomb", code, "memory=4096")
    wait_for(lambda: len(processes_of(run_id)) > 60)
    platform.call("POST", f"/v2/actor-runs/{run_id}/abort")
    assert platform.ended(run_id)["status"] == "ABORTED"
    assert processes_of(run_id) == []
