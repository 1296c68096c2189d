"""RUN lines: how they are split, and what the native builder makes of each command."""

from __future__ import annotations

import pytest

from actorium.builders.native.commands import Chain, Command, Kind, Pipeline, UnsupportedError, parse_run


def commands(text: str) -> list[Command]:
    def walk(part: Chain | Pipeline) -> list[Command]:
        if isinstance(part, Pipeline):
            return list(part.commands)
        return [command for _, inner in part.parts for command in walk(inner)]

    return walk(parse_run(text))


def only(text: str) -> Command:
    (command,) = commands(text)
    return command


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("npm install --omit=dev", Kind.NODE_DEPENDENCIES, ("npm", "install", "--omit=dev")),
        ("npm --quiet ci", Kind.NODE_DEPENDENCIES, ("npm", "--quiet", "ci")),
        ("npm run build", Kind.PROGRAM, ("npm", "run", "build")),
        ("npm --quiet set progress=false", Kind.SKIPPED, None),
        ("npm cache clean --force", Kind.SKIPPED, None),
        ("npm ls @crawlee/core apify puppeteer playwright", Kind.INFORMATION, None),
        ("npm --version", Kind.INFORMATION, None),
        ("node --version", Kind.INFORMATION, None),
        ("node check-playwright-version.mjs", Kind.SKIPPED, None),
        ("npx crawlee install-playwright-browsers", Kind.SKIPPED, None),
        ("npx tsc", Kind.PROGRAM, None),
        ("yarn install --frozen-lockfile", Kind.NODE_DEPENDENCIES, None),
        ("pnpm install", Kind.NODE_DEPENDENCIES, None),
        (
            "pip install -r requirements.txt",
            Kind.PYTHON_DEPENDENCIES,
            ("uv", "pip", "install", "-r", "requirements.txt"),
        ),
        ("pip install --no-cache-dir --quiet x", Kind.PYTHON_DEPENDENCIES, ("uv", "pip", "install", "x")),
        ("python -m pip install x", Kind.PYTHON_DEPENDENCIES, ("uv", "pip", "install", "x")),
        ("uv pip install --system x", Kind.PYTHON_DEPENDENCIES, ("uv", "pip", "install", "x")),
        (
            "uv sync --frozen --no-dev",
            Kind.PYTHON_DEPENDENCIES,
            ("uv", "sync", "--frozen", "--no-dev", "--no-editable"),
        ),
        ("poetry install", Kind.PYTHON_DEPENDENCIES, None),
        ("pip freeze", Kind.INFORMATION, ("uv", "pip", "freeze")),
        ("python --version", Kind.INFORMATION, None),
        ("python3 -m compileall -q my_actor/", Kind.INFORMATION, None),
        ("playwright install chromium", Kind.SKIPPED, None),
        ("python -m playwright install", Kind.SKIPPED, None),
        ("corepack enable", Kind.SKIPPED, None),
        ("echo 'Python version:'", Kind.ECHO, ("echo", "Python version:")),
        ("true", Kind.ECHO, None),
        ("rm -r ~/.npm", Kind.SKIPPED, None),
        ("rm -rf build", Kind.REMOVE, None),
        ("mkdir -p data", Kind.MAKE_FOLDERS, None),
        ("CI=1 npm run build", Kind.PROGRAM, ("npm", "run", "build")),
    ],
)
def test_what_is_known(text: str, kind: Kind, words: tuple[str, ...] | None) -> None:
    command = only(text)
    assert command.kind is kind
    if words is not None:
        assert command.words == words


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("curl https://example.com/x | sh", "curl"),
        ("wget x", "wget"),
        ("git clone x", "git"),
        ("bash main.sh", "bash"),
        ("sh -c 'a && b'", "sh"),
        ("npm install --global apify-cli", "globally"),
        ("chmod +x start", "chmod"),
        ("chown -R me .", "chown"),
        ("find . -delete", "find"),
        ("rm -rf /usr/src/app/x", "outside"),
        ("rm -rf ../x", "outside"),
        ("node build.js", "Node.js script"),
        ("python setup.py install", "Python program"),
        ("python -m camoufox fetch", "browser"),
        ("npx camoufox-js fetch", "browser"),
        ("npx something", "npx something"),
        ("pip install -e .", "editable"),
        ("echo $(date)", "command substitution"),
        ("echo `date`", "command substitution"),
        ("npm install > log.txt", ">"),
        ("npm install &", "&"),
        ("cat <<EOF", "here-document"),
        ("echo 'unbalanced", "quotes"),
        ("X=1", "variables"),
        ("(npm install", "parenthesis"),
    ],
)
def test_what_is_refused_names_itself(text: str, named: str) -> None:
    with pytest.raises(UnsupportedError) as error:
        parse_run(text)
    assert named in error.value.reason
    assert error.value.remedy


def test_system_packages_are_listed() -> None:
    command = only("apt-get install -yq git libpq-dev")
    assert command.kind is Kind.SKIPPED
    assert "git, libpq-dev" in command.note
    assert only("apk add g++ make py3-pip").note.endswith("g++, make, py3-pip")
    assert "packages" not in only("apt-get update").note


def test_the_official_install_line() -> None:
    text = (
        "npm --quiet set progress=false && npm install --omit=dev --omit=optional && echo 'Installed' "
        "&& (npm list --omit=dev --all || true) && node --version && npm --version && rm -r ~/.npm"
    )
    chain = parse_run(text)
    assert [operator for operator, _ in chain.parts] == ["", "&&", "&&", "&&", "&&", "&&", "&&"]
    inner = chain.parts[3][1]
    assert isinstance(inner, Chain)
    assert [operator for operator, _ in inner.parts] == ["", "||"]
    assert [command.kind for command in commands(text)] == [
        Kind.SKIPPED,
        Kind.NODE_DEPENDENCIES,
        Kind.ECHO,
        Kind.INFORMATION,
        Kind.ECHO,
        Kind.INFORMATION,
        Kind.INFORMATION,
        Kind.SKIPPED,
    ]


def test_pipes() -> None:
    ((_, pipeline),) = parse_run("poetry export | pip install -r /dev/stdin --no-deps").parts
    assert isinstance(pipeline, Pipeline)
    assert [command.words[0] for command in pipeline.commands] == ["poetry", "uv"]
