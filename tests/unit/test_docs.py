"""Documentation is complete: settings, commands, diagram, error types, and no page leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from actorium.domain.errors import ErrorType
from actorium.settings import SETTINGS, SettingError, Settings, load_settings

ROOT = Path(__file__).parents[2]


def test_generated_parts_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_and_flag_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    for setting in SETTINGS:
        assert f"`{setting.name}`" in page
        assert setting.env_var in page
    commands = (ROOT / "docs" / "cli.md").read_text()
    for flag in ("--ephemeral", "--stop-runs", "--token", "--exit", "--json", "--data-dir", "--set"):
        assert flag in commands


def test_every_error_type_is_documented_and_answered_somewhere() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    sources = {path: path.read_text() for path in (ROOT / "src").rglob("*.py")}
    code = "\n".join(sources.values())
    for found in ErrorType:
        assert f"| `{found.code}` | {found.status} |" in page
        assert f"ErrorType.{found.name}" in code, f"{found.code} is answered nowhere"
    for path, text in sources.items():
        for name in re.findall(r"\bErrorType\.([A-Z][A-Z_]+)", text):
            assert name in ErrorType.__members__, f"{path}: {name}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_module_is_too_long() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 600, path


def test_the_settings_table_is_the_settings_type() -> None:
    assert {setting.name for setting in SETTINGS} == set(Settings.__struct_fields__)


def test_precedence_of_settings(tmp_path: Path) -> None:
    (tmp_path / "actorium.toml").write_text('port = 1111\nhost = "file"\nlog_level = "debug"\n')
    environ = {"ACTORIUM_DATA_DIR": str(tmp_path), "ACTORIUM_HOST": "env", "ACTORIUM_PORT": "2222"}
    found = load_settings({"port": 3}, environ)
    assert (found.port, found.host, found.log_level) == (3, "env", "debug")
    assert found.abort_grace_secs == 30
    assert found.max_total_memory_mbytes > 128


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "70000"),
        ("port", "x"),
        ("log_format", "xml"),
        ("default_run_memory_mbytes", "1000"),
        ("abort_grace_secs", "-1"),
        ("database_url", "mysql://x"),
        ("blob_store_url", "/tmp/x"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, name: str, value: str) -> None:
    environ = {"ACTORIUM_DATA_DIR": str(tmp_path), f"ACTORIUM_{name.upper()}": value}
    with pytest.raises(SettingError, match=f"{name} .*must be") as error:
        load_settings({}, environ)
    if name == "database_url":
        assert value not in str(error.value), "it may hold a password"


def test_unknown_settings_in_the_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "actorium.toml").write_text("prot = 5\n")
    with pytest.raises(SettingError, match="prot"):
        load_settings({"data_dir": str(tmp_path)}, {})
