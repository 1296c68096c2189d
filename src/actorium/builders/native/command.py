"""What an image starts: the words of ENTRYPOINT and CMD as programs of the stage and of this machine."""

from __future__ import annotations

from pathlib import PurePosixPath

from actorium.builders import BuildFailed
from actorium.builders.native.installs import Installs
from actorium.builders.native.stages import Language, Stage

_RUNNERS = frozenset({"uv", "poetry"})
_XVFB = frozenset({"xvfb-entrypoint.sh", "start_xvfb_and_run_cmd.sh", "new_xvfb_run_cmd.sh"})


async def resolve_command(stage: Stage, installs: Installs) -> list[str]:
    """The image's command. Raises ``BuildFailed`` when its program is nowhere."""
    entrypoint = [word for word in stage.entrypoint or [] if PurePosixPath(word).name not in _XVFB]
    command = _without_runner([*entrypoint, *(stage.command or [])])
    if not command:
        command = _python_default(stage) if stage.language is Language.PYTHON else ["npm", "start", "--silent"]
    first, *rest = command
    if first in ("python", "python3") and stage.language is Language.PYTHON:
        return [str(await installs.interpreter(stage)), *rest]
    program = await installs.program(first, stage)
    if program is None and not (stage.root / stage.workdir / first).exists():
        raise BuildFailed(
            f"The Actor's command starts {first!r}, which neither the Actor nor this machine has. "
            "Install it, or build with the Docker builder."
        )
    # What is inside the stage has another place in every run.
    if program is None or program.is_relative_to(stage.root):
        return [first if "/" in first else program.name if program else first, *rest]
    return [str(program), *rest]


def _without_runner(command: list[str]) -> list[str]:
    """``uv run --no-sync python -m x`` as ``python -m x``: the environment is the image's already."""
    if len(command) > 2 and command[0] in _RUNNERS and command[1] == "run":
        words = command[2:]
        while words and words[0].startswith("-"):
            words = words[1:]
        return words
    return command


def _python_default(stage: Stage) -> list[str]:
    if not (stage.root / "src" / "__main__.py").exists():
        packages = [path.parent.name for path in stage.root.glob("*/__main__.py")]
        if len(packages) == 1:
            return ["python", "-m", packages[0]]
    return ["python", "-m", "src"]
