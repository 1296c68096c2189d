"""pnpm and Yarn for Actors that use them: the machine's own, else the release a project asks for, from the registry."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

_MANAGER = re.compile(r"(pnpm|yarn)@(\d+[\w.-]*)(\+.*)?")
# The newest that run on every Node.js this builder supports; Yarn 2 and later are named by the project itself.
_USUAL = {"pnpm": "10", "yarn": "1"}


class Release(msgspec.Struct, frozen=True):
    """A package manager's release: npm's ``package`` at ``version``."""

    package: str
    version: str


def wanted_release(manager: str, folder: Path) -> Release | None:
    """What ``packageManager`` of package.json asks of ``manager``; ``None`` = it does not say."""
    try:
        package = json.loads((folder / "package.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    match = _MANAGER.fullmatch(str(package.get("packageManager") if isinstance(package, dict) else ""))
    return _release(manager, match[2]) if match is not None and match[1] == manager else None


def usual_release(manager: str) -> Release:
    """What is used where the project does not say and the machine has none."""
    return _release(manager, _USUAL[manager])


def _release(manager: str, version: str) -> Release:
    is_modern_yarn = manager == "yarn" and int(version.split(".")[0]) > 1
    return Release("@yarnpkg/cli-dist" if is_modern_yarn else manager, version)


def environment(program: str, store: Path) -> dict[str, str]:
    """Variables under which a package manager puts everything into one ``node_modules``, and asks nothing."""
    if program == "pnpm":
        settings = {"node_linker": "hoisted", "store_dir": str(store / "pnpm"), "package_import_method": "auto"}
        return {"CI": "true"} | {
            f"{prefix}_config_{name}": value for prefix in ("npm", "pnpm") for name, value in settings.items()
        }
    if program == "yarn":
        return {
            "CI": "true",
            "YARN_NODE_LINKER": "node-modules",
            "YARN_CACHE_FOLDER": str(store / "yarn"),
            "YARN_ENABLE_GLOBAL_CACHE": "false",
            "YARN_ENABLE_TELEMETRY": "0",
            # Without a lock file yet, Yarn 2 and later refuse in CI; the official images do not set CI.
            "YARN_ENABLE_IMMUTABLE_INSTALLS": "false",
        }
    if program == "bun":
        return {"BUN_INSTALL_CACHE_DIR": str(store / "bun")}
    return {}
