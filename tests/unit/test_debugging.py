"""Commands under a debugger. docs: development."""

from __future__ import annotations

from pathlib import Path

import pytest

from actorium.domain.models import Debug
from actorium.runtimes import StartError
from actorium.runtimes.debugging import under_debugger


def test_node_listens_with_its_inspector() -> None:
    command = ["/opt/node/bin/node", "src/main.js", "x"]
    assert under_debugger(command, Debug(9229))[1:] == ["--inspect=127.0.0.1:9229", "src/main.js", "x"]
    assert under_debugger(command, Debug(9229, waits=True))[1] == "--inspect-brk=127.0.0.1:9229"


def test_python_runs_below_debugpy() -> None:
    done = under_debugger(["/v/bin/python", "-u", "-m", "my_actor", "x"], Debug(5678, waits=True))
    assert done[:4] == ["/v/bin/python", "-u", "-X", "frozen_modules=off"]
    assert (Path(done[4]) / "__main__.py").is_file()
    assert done[5:] == ["--listen", "127.0.0.1:5678", "--wait-for-client", "-m", "my_actor", "x"]
    assert under_debugger(["python3", "main.py"], Debug(1))[-1] == "main.py"


@pytest.mark.parametrize("command", [["npm", "start"], ["python", "-c", "1"], ["bun", "run", "start"]])
def test_other_programs_have_no_debugger(command: list[str]) -> None:
    with pytest.raises(StartError, match="starts neither a Python module or file nor node"):
        under_debugger(command, Debug(0))
