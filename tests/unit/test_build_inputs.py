"""What a build reads: archives, definitions, Dockerfiles, input schemas."""

from __future__ import annotations

import base64
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from actorium.builders import BuildFailed, Sources
from actorium.builders.context import Context
from actorium.builders.definition import read_definition
from actorium.builders.dockerfile import assignments, exec_form, expand, parse_dockerfile
from actorium.builders.native.stages import base_image
from actorium.builders.sources import write_sources
from actorium.domain.models import SourceFile


def archive(tmp_path: Path, entries: dict[str, bytes]) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in entries.items():
            zipped.writestr(name, content)
    return path


def test_files_are_written(tmp_path: Path) -> None:
    files = (
        SourceFile("a/b.txt", "TEXT", "text"),
        SourceFile("c.bin", "BASE64", base64.b64encode(b"\x00\xff").decode()),
        SourceFile("empty.txt"),
        SourceFile("folder", folder=True),
    )
    write_sources(Sources(files), tmp_path / "out")
    assert (tmp_path / "out/a/b.txt").read_text() == "text"
    assert (tmp_path / "out/c.bin").read_bytes() == b"\x00\xff"
    assert not (tmp_path / "out/empty.txt").exists()
    assert (tmp_path / "out/folder").is_dir()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\b", "x" * 300, ""])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildFailed, match="not allowed"):
        write_sources(Sources((SourceFile(name, "TEXT", "x"),)), tmp_path / "out")
    with pytest.raises(BuildFailed):
        write_sources(Sources(archive=archive(tmp_path, {name or "../y": b"x"})), tmp_path / "out2")
    assert not (tmp_path / "x").exists()


def test_wrong_base64_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match=r"c\.bin"):
        write_sources(Sources((SourceFile("c.bin", "BASE64", "???"),)), tmp_path / "out")


def test_a_zip_cut_off_says_so(tmp_path: Path) -> None:
    whole = archive(tmp_path, {"main.py": b"print(1)\n"})
    (tmp_path / "cut.zip").write_bytes(whole.read_bytes()[:40])
    with pytest.raises(BuildFailed, match="it was cut off"):
        write_sources(Sources(archive=tmp_path / "cut.zip"), tmp_path / "out")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"not an archive")
    with pytest.raises(BuildFailed, match="cannot be unpacked"):
        write_sources(Sources(archive=path), tmp_path / "out")


def test_a_single_top_folder_goes(tmp_path: Path) -> None:
    write_sources(Sources(archive=archive(tmp_path, {"top/Dockerfile": b"x", "top/a/b": b"y"})), tmp_path / "out")
    assert (tmp_path / "out/Dockerfile").exists()
    tar = tmp_path / "t.tar.gz"
    with tarfile.open(tar, "w:gz") as tarred:
        for name in ("./Dockerfile", "./main.py"):
            member = tarfile.TarInfo(name)
            member.size = 1
            tarred.addfile(member, io.BytesIO(b"x"))
    write_sources(Sources(archive=tar), tmp_path / "out2")
    assert sorted(path.name for path in (tmp_path / "out2").iterdir()) == ["Dockerfile", "main.py"]


SCHEMA = '{"title": "T", "type": "object", "schemaVersion": 1, "properties": {}}'


def actor(tmp_path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_actor_json_is_json5_and_references_are_put_in_place(tmp_path: Path) -> None:
    root = actor(
        tmp_path,
        {
            ".actor/actor.json": '{// a comment\n actorSpecification: 1, name: "x", version: "0.1",\n'
            ' inputSchema: "./in.json", readme: "../docs/R.md", storages: {dataset: "./ds.json"},}',
            ".actor/in.json": SCHEMA,
            ".actor/ds.json": '{"actorSpecification": 1}',
            "docs/R.md": "# Read",
            ".actor/Dockerfile": "FROM node",
            "Dockerfile": "FROM python",
        },
    )
    found = read_definition(root)
    assert found.actor_definition is not None
    assert found.actor_definition["input"]["title"] == "T"
    assert found.actor_definition["storages"] == {"dataset": {"actorSpecification": 1}}
    assert (found.readme, found.changelog) == ("# Read", None)
    assert found.dockerfile == root / ".actor/Dockerfile"


def test_defaults_are_found_in_any_case(tmp_path: Path) -> None:
    root = actor(tmp_path, {".actor/input_schema.json": SCHEMA, "readme.md": "r", "Dockerfile": "x"})
    found = read_definition(root)
    assert found.actor_definition is None
    assert found.input_schema is not None
    assert found.readme == "r"
    assert found.dockerfile == root / "Dockerfile"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Could not parse .actor/actor.json"),
        ("[1]", "must be a JSON object"),
        ('{"readme": "../../outside.md"}', "points outside the Actor root directory"),
        ('{"dockerfile": "/etc/passwd"}', "points outside the Actor root directory"),
        ('{"storages": {"requestQueue": {}}}', "storages"),
        ('{"storages": {"datasets": {"other": {}}}}', "storages.datasets"),
    ],
)
def test_broken_definitions_fail_the_build(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BuildFailed, match=message):
        read_definition(actor(tmp_path, {".actor/actor.json": text}))


def test_a_missing_reference_warns_and_falls_through(tmp_path: Path) -> None:
    found = read_definition(actor(tmp_path, {".actor/actor.json": '{"readme": "./no.md"}', "README.md": "yes"}))
    assert found.readme == "yes"
    assert any("no.md" in warning for warning in found.warnings)


def test_a_broken_input_schema_fails_the_build(tmp_path: Path) -> None:
    broken = SCHEMA.replace('"properties"', '"extra": 1, "properties"')
    with pytest.raises(BuildFailed, match=r"^Input schema is not valid \(Property schema.extra is not allowed\.\)$"):
        read_definition(actor(tmp_path, {"INPUT_SCHEMA.json": broken}))
    (tmp_path / "INPUT_SCHEMA.json").write_text(SCHEMA[:-1] + " " * 500 * 1024 + "}")
    with pytest.raises(BuildFailed, match="larger than 512000 bytes"):
        read_definition(tmp_path)


def test_dockerfile_instructions_have_lines() -> None:
    text = "# syntax=x\nFROM node:20 AS b\n\nRUN a && \\\n    b\nCOPY --from=b --chown=x:y a ./\n"
    found = parse_dockerfile(text, "Dockerfile")
    assert [(one.name, one.line) for one in found] == [("FROM", 2), ("RUN", 4), ("COPY", 6)]
    assert found[1].value.split() == ["a", "&&", "b"]
    assert found[2].flags == {"from": "b", "chown": "x:y"}
    assert found[2].value == "a ./"
    assert str(found[1].refuse("does x", "Do y.")) == "Dockerfile line 4: RUN does x. Do y."


def test_variables() -> None:
    variables = {"A": "1", "E": ""}
    assert expand("$A ${A} ${B:-two} ${E:-none} ${A:+yes} \\$A $B", variables) == "1 1 two none yes $A "
    (env,) = parse_dockerfile('ENV X=1 Y="two words" Z=$A', "D")
    assert assignments(env, variables) == {"X": "1", "Y": "two words", "Z": "1"}
    (env,) = parse_dockerfile("ENV OLD style value", "D")
    assert assignments(env, variables) == {"OLD": "style value"}
    assert exec_form('["a", "b c"]') == ["a", "b c"]
    assert exec_form("a b") is None


def test_base_images() -> None:
    (line,) = parse_dockerfile("FROM x", "Dockerfile")
    assert base_image(line, "apify/actor-node:24")[1:] == ("24", "")
    assert base_image(line, "apify/actor-node-playwright-chrome:24-1.61.1")[1:] == ("24", "playwright-chrome")
    assert base_image(line, "apify/actor-python:3.13")[1:] == ("3.13", "")
    assert base_image(line, "docker.io/library/python:3.12-slim")[1] == "3.12"
    with pytest.raises(BuildFailed, match=r"Dockerfile line 1: FROM uses the base image ubuntu:22.04"):
        base_image(line, "ubuntu:22.04")


def test_dockerignore(tmp_path: Path) -> None:
    files = dict.fromkeys(("a.py", "dist/b", "node_modules/c", "src/node_modules/d", "keep.log", "x.log"), "x")
    root = actor(tmp_path, {**files, ".dockerignore": "# c\nnode_modules\ndist\n*.log\n!keep.log\n**/d\n"})
    assert Context(root).files() == [".dockerignore", "a.py", "keep.log"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ('"minMemoryMbytes": 64', "minMemoryMbytes in .actor/actor.json must be a whole number from 128 to 32768, but"),
        (
            '"maxMemoryMbytes": "1"',
            "maxMemoryMbytes in .actor/actor.json must be a whole number from 128 to 32768, but",
        ),
        ('"defaultMemoryMbytes": 0', "to 32768, or an expression, but is 0."),
        ('"defaultMemoryMbytes": "1 +"', "is not a valid expression: there is an unexpected end at 4."),
        ('"webServerSchema": {"swagger": "2.0"}', "webServerSchema in .actor/actor.json must be an OpenAPI document"),
    ],
)
def test_memory_and_web_server_schema_are_checked(tmp_path: Path, fields: str, message: str) -> None:
    with pytest.raises(BuildFailed) as error:
        read_definition(actor(tmp_path, {".actor/actor.json": f"{{{fields}}}"}))
    assert message in str(error.value)


def test_a_web_server_schema_is_put_in_place(tmp_path: Path) -> None:
    files = {".actor/actor.json": '{"webServerSchema": "./api.json"}', ".actor/api.json": '{"openapi": "3.0.1"}'}
    found = read_definition(actor(tmp_path, files)).actor_definition
    assert found is not None
    assert found["webServerSchema"] == {"openapi": "3.0.1"}
