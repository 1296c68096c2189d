"""Stand-ins for the official base images, made from this machine's programs: no registry is needed.

They carry the official names, a static busybox, this test run's Python with pip (and, tagged ``-sdk``, the
stock SDK), or the machine's Node.js. Each is made once for an engine and a recipe.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from actorium.runtimes.docker.engine import DockerEngine

LABEL = "com.actorium.test-recipe"
PYTHON = "apify/actor-python:3.11"
SDK = "apify/actor-python:3.11-sdk"
NODE = "apify/actor-node:20"
PROGRAM = "actorium-test/program:1"
MISSING = "actorium-test/missing:1"
_STDLIB = Path(os.__file__).resolve().parent
_SITE = Path(pytest.__file__).resolve().parents[1]
_SKIPPED = {"test", "tests", "idlelib", "tkinter", "turtledemo", "site-packages", "dist-packages", "lib2to3"}
# Where a Python looks for packages by itself differs between Debian's and others.
_PACKAGES = Path("/opt/packages")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")

_PYTHON_DOCKERFILE = """FROM scratch
ADD rootfs.tar.gz /
ENV PATH=/usr/local/bin:/bin PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
PYTHONPATH=/opt/packages PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore \
SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt LANG=C.UTF-8
RUN python -m compileall -q -x project_template /opt/packages
WORKDIR /usr/src/app
CMD ["python", "-m", "src"]
"""
_NODE_DOCKERFILE = """FROM scratch
ADD rootfs.tar.gz /
ENV PATH=/usr/local/bin:/usr/bin:/bin NODE_ENV=production LANG=C.UTF-8 \
SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
WORKDIR /usr/src/app
CMD ["npm", "start", "--silent"]
"""
_PROGRAM_DOCKERFILE = f"""FROM {PYTHON}
CMD ["python", "-I", "-S", "-c", "import os; exec(os.environ['PROGRAM'])"]
"""
_MISSING_DOCKERFILE = f'FROM {PYTHON}\nCMD ["no-such-program"]\n'


def _needs(program: str) -> Path:
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"--docker needs {program}, which is not installed")
    return Path(found)


def _libraries(files: Iterable[Path]) -> set[Path]:
    """The shared libraries these need, as the dynamic linker finds them."""
    done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False)
    return {Path(match) for match in _LIBRARY.findall(done.stdout)}


def _packages(name: str) -> set[str]:
    """A distribution and all it requires here."""
    found: set[str] = set()
    waiting = [(name, "")]
    while waiting:
        current, extra = waiting.pop()
        found.add(current)
        for line in importlib.metadata.requires(current) or ():
            wanted = Requirement(line)
            applies = wanted.marker is None or wanted.marker.evaluate({"extra": extra})
            if applies and wanted.name.lower() not in {known.lower() for known in found}:
                waiting.extend((wanted.name, extra) for extra in (wanted.extras or {""}))
    return found


class _RootFs:
    """A file system as a compressed tar file, made of this machine's files at their own places."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._zip = gzip.GzipFile(fileobj=self._buffer, mode="wb", compresslevel=1, mtime=0)
        self._tar = tarfile.open(fileobj=self._zip, mode="w", dereference=False)  # noqa: SIM115
        self._seen: set[str] = set()
        _needs("busybox")
        self.file(_needs("busybox").resolve(), "/bin/busybox")
        names = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
        for name in names:
            self.link(f"/bin/{name}", "busybox")
        self.text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmyuser:x:1000:1000::/home/myuser:/bin/sh\n")
        self.text("/etc/group", "root:x:0:\nmyuser:x:1000:\n")
        self.folder("/tmp", 0o1777)
        self.folder("/home/myuser", 0o777)
        self.folder("/usr/src/app", 0o777)
        if _CERTIFICATES.exists():
            self.file(_CERTIFICATES.resolve(), str(_CERTIFICATES))

    def _parents(self, name: str) -> None:
        for parent in list(Path(name).parents)[-2::-1]:
            self.folder(str(parent))

    def folder(self, name: str, mode: int = 0o755) -> None:
        if name in self._seen or name == "/":
            return
        self._parents(name)
        self._seen.add(name)
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(entry)

    def file(self, source: Path, name: str) -> None:
        if name in self._seen:
            return
        self._parents(name)
        self._seen.add(name)
        entry = self._tar.gettarinfo(str(source), name.lstrip("/"))
        entry.type, entry.uid, entry.gid = tarfile.REGTYPE, 0, 0
        entry.size = source.stat().st_size
        with source.open("rb") as content:
            self._tar.addfile(entry, content)

    def text(self, name: str, text: str, mode: int = 0o644) -> None:
        self._parents(name)
        self._seen.add(name)
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.mode, entry.size = mode, len(text.encode())
        self._tar.addfile(entry, io.BytesIO(text.encode()))

    def link(self, name: str, target: str) -> None:
        if name in self._seen:
            return
        self._parents(name)
        self._seen.add(name)
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(entry)

    def libraries_of(self, files: Iterable[Path]) -> None:
        for library in _libraries(files):
            self.file(library.resolve(), str(library))

    def done(self) -> bytes:
        self._tar.close()
        self._zip.close()
        return self._buffer.getvalue()


def _tree(root: Path, skipped: set[str]) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in skipped and not name.startswith("config-")]
        yield from (Path(folder) / name for name in names)


def _python_rootfs(*packages: str) -> bytes:
    root = _RootFs()
    python = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}").resolve()
    files = [path for path in _tree(_STDLIB, _SKIPPED) if not path.name.endswith(".a")]
    for path in files:
        root.file(path.resolve(), str(path))
    root.file(python, str(python))
    binaries = [python, *(path for path in files if path.suffix == ".so")]
    for name in {needed for package in ("pip", *packages) for needed in _packages(package)}:
        for entry in importlib.metadata.files(name) or ():
            source = Path(str(entry.locate())).resolve()
            if source.is_relative_to(_SITE) and source.is_file():
                root.file(source, str(_PACKAGES / source.relative_to(_SITE)))
                binaries += [source] if ".so" in source.suffixes else []
    root.libraries_of(binaries)
    for name in ("python", "python3"):
        root.link(f"/usr/local/bin/{name}", str(python))
    pip = f"#!{python}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
    root.text("/usr/local/bin/pip", pip, 0o755)
    return root.done()


def _node_rootfs() -> bytes:
    root = _RootFs()
    node, npm = _needs("node").resolve(), _needs("npm").resolve()
    root.file(node, "/usr/local/bin/node")
    root.libraries_of([node])
    modules = next(parent for parent in npm.parents if parent.name == "node_modules")
    for path in _tree(modules, set()):
        root.file(path.resolve(), f"/usr/local/lib/node_modules/{path.relative_to(modules)}")
    for name in ("npm", "npx"):
        root.link(f"/usr/local/bin/{name}", f"../lib/node_modules/npm/bin/{name}-cli.js")
    root.link("/usr/bin/env", "../../bin/busybox")
    return root.done()


async def build(engine: DockerEngine, tag: str, files: dict[str, bytes], labels: str = "{}") -> None:
    """Build an image of a Dockerfile and what it adds."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    context.seek(0)
    params = {"t": tag, "labels": labels, "rm": "1", "nocache": "1"}
    headers = {"Content-Type": "application/x-tar"}
    async with engine.stream("POST", "build", context, params=params, headers=headers, answer_secs=120) as answer:
        said = (await answer.read()).decode()
    assert '"error"' not in said, said


async def ensure_images(engine: DockerEngine, *, node: bool = False, only: Sequence[str] = ()) -> None:
    """Make what is missing or was made by another recipe; ``only`` these, where it is given."""
    recipe = hashlib.sha256(
        Path(__file__).read_bytes()
        + sys.version.encode()
        + str(sorted((name, importlib.metadata.version(name)) for name in _packages("apify"))).encode()
    ).hexdigest()
    labels = f'{{"{LABEL}": "{recipe}"}}'
    found = await engine.call("GET", "images/json", params={"filters": f'{{"label": ["{LABEL}={recipe}"]}}'})
    present = {tag for image in found for tag in image["RepoTags"] or ()}
    recipes = {
        PYTHON: lambda: {"Dockerfile": _PYTHON_DOCKERFILE.encode(), "rootfs.tar.gz": _python_rootfs()},
        SDK: lambda: {
            "Dockerfile": _PYTHON_DOCKERFILE.encode(),
            "rootfs.tar.gz": _python_rootfs("apify", "crawlee", "beautifulsoup4", "lxml"),
        },
        PROGRAM: lambda: {"Dockerfile": _PROGRAM_DOCKERFILE.encode()},
        MISSING: lambda: {"Dockerfile": _MISSING_DOCKERFILE.encode()},
    }
    if node:
        recipes[NODE] = lambda: {"Dockerfile": _NODE_DOCKERFILE.encode(), "rootfs.tar.gz": _node_rootfs()}
    missing = [tag for tag in recipes if tag not in present and (not only or tag in only)]
    for tag in missing:
        await build(engine, tag, recipes[tag](), labels)
    if missing:
        await engine.call("POST", "images/prune", timeout_secs=120)
