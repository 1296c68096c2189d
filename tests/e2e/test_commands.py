"""The ``actorium`` command as a person or a script uses it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from support.platform import Platform, Refused, python_actor, wait_for

pytestmark = pytest.mark.timeout(240)
_COMMAND = [sys.executable, "-m", "actorium"]


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HOME": str(cwd), "COLUMNS": "200"}
    return subprocess.run([*_COMMAND, *words], cwd=cwd, env=env, capture_output=True, text=True, check=False)


def test_users_see_only_their_own_and_leave_nothing(tmp_path: Path) -> None:
    platform = Platform(tmp_path / "data").start()
    try:
        platform.first_token()
        platform.cli("users", "add", "berta", "--email", "berta@example.com")
        token = platform.cli("tokens", "create", "berta", "--name", "laptop").strip()
        assert "berta@example.com" in platform.cli("users", "list")
        assert "laptop" in platform.cli("tokens", "list", "berta")
        actor_id = platform.build_actor("private", python_actor("print(1)\n"))
        run_id = platform.call("POST", f"/v2/actors/{actor_id}/runs")["id"]
        store = platform.call("POST", "/v2/key-value-stores?name=berta-store", token=token)
        assert platform.call("GET", "/v2/users/me", token=token)["username"] == "berta"
        for path in (f"actors/{actor_id}", f"actor-runs/{run_id}", f"logs/{run_id}"):
            with pytest.raises(Refused) as refused:
                platform.call("GET", f"/v2/{path}", token=token)
            assert refused.value.status in (403, 404), path
        assert platform.call("GET", "/v2/actor-runs", token=token)["items"] == []
        with pytest.raises(Refused):
            platform.call("DELETE", f"/v2/key-value-stores/{store['id']}")

        scope = json.dumps({"account": {"keyValueStores": ["READ"]}})
        scoped = platform.cli("tokens", "create", "berta", "--scope", scope).strip()
        assert platform.call("GET", "/v2/key-value-stores", token=scoped)["total"] == 1
        with pytest.raises(Refused) as refused:
            platform.call("GET", "/v2/datasets", token=scoped)
        assert refused.value.type == "insufficient-permissions"
        platform.cli("users", "role", "berta", "ADMIN")
        log = platform.call("GET", "/actorium/audit-log", token=token)["items"]
        assert {"user.create", "user.set-role", "token.create"} <= {one["action"] for one in log}
        assert "actorium users role" in {one["operation"] for one in log}

        platform.cli("tokens", "revoke", token)

        def is_revoked() -> bool:
            try:
                platform.call("GET", "/v2/users/me", token=token)
            except Refused as refusal:
                return refusal.status == 401
            return False

        wait_for(is_revoked)
        platform.cli("users", "remove", "berta")
        assert "berta" not in platform.cli("users", "list")
    finally:
        platform.stop()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("users", "add", "no spaces"), "Username"),
        (("users", "add", "admin"), "admin"),
        (("users", "remove", "nobody"), "User was not found"),
        (("tokens", "create", "nobody"), "User was not found"),
        (("tokens", "create", "admin", "--token", "short"), "16"),
        (("tokens", "revoke", "unknown"), "Token was not found"),
        (("serve", "--set", "no_such_setting=1"), "no_such_setting"),
        (("serve", "--set", "max_concurrent_runs=many"), "max_concurrent_runs"),
        (("serve", "--port", "99999"), "port"),
    ],
)
def test_wrong_words_are_refused_in_words(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    first = run("users", "add", "admin", "--data-dir", "data", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    done = run(*words, "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_doctor_says_what_the_machine_can_do(tmp_path: Path) -> None:
    done = run("doctor", "--json", "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    names = {finding["name"] for finding in report["findings"]}
    assert {"uv", "Node.js", "Docker engine", "bubblewrap", "cgroups", "data directory"} <= names
    assert report["can_run"] is True
    assert "bubblewrap" in run("doctor", "--data-dir", "data", cwd=tmp_path).stdout


def test_settings_show_values_and_hide_secrets(tmp_path: Path) -> None:
    words = (
        "settings",
        "--data-dir",
        "data",
        "--set",
        "max_concurrent_runs=17",
        "--set",
        "s3_secret_access_key=hidden",
    )
    shown = run(*words, cwd=tmp_path).stdout
    assert re.search(r"max_concurrent_runs\D+17\b", shown)
    assert "hidden" not in shown


def test_an_ephemeral_server_leaves_nothing(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path), "ACTORIUM_LOG_FORMAT": "json"}
    command = [*_COMMAND, "up", "--ephemeral", "--token", "a-token-of-sixteen-characters"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        assert process.stdout is not None
        printed = ""
        while not (found := re.search(r'"url": "(http://[^"]+)"', printed)):
            line = process.stdout.readline()
            assert line, printed
            printed += line
        request = urllib.request.Request(
            f"{found[1]}/v2/users/me", headers={"Authorization": "Bearer a-token-of-sixteen-characters"}
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        assert list(tmp_path.iterdir()) != []
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.node
def test_the_demo_does_what_it_says(tmp_path: Path) -> None:
    done = run("demo", "--exit", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("ABORTED", "SUCCEEDED", "resurrect", "Everything did what it said."):
        assert said in done.stdout
