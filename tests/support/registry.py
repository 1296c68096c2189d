"""A registry that demands an account and holds one image. docs: Distribution, HTTP API V2."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import platform
import tarfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Registry:
    """Serves ``image``, which holds the file ``/base``, to ``login`` (``user:password``) alone."""

    def __init__(self, login: str) -> None:
        expected = f"Basic {base64.b64encode(login.encode()).decode()}"
        served = _image()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_known = self.headers.get("Authorization") == expected
                found = served.get(self.path.rpartition("/")[2]) if self.path != "/v2/" else ("text/plain", b"")
                if not is_known:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="tests"')
                    kind, body = "application/json", b'{"errors": [{"code": "UNAUTHORIZED"}]}'
                elif found is None:
                    self.send_response(404)
                    kind, body = "application/json", b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}'
                else:
                    self.send_response(200)
                    kind, body = found
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                self.send_header("Docker-Content-Digest", _digest(body))
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self._server.serve_forever, daemon=True).start()
        self.name = f"127.0.0.1:{self._server.server_address[1]}"
        self.image = f"{self.name}/private/base:1"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _image() -> dict[str, tuple[str, bytes]]:
    """What is served, by the last part of its path."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("base")
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"base"))
    layer = gzip.compress(buffer.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Cmd": ["/base"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(buffer.getvalue())]},
            "history": [{"created_by": "tests"}],
        }
    ).encode()
    kinds = {"config": "application/vnd.docker.container.image.v1+json", "layer": "application/octet-stream"}
    described = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": kinds["config"], "size": len(config), "digest": _digest(config)},
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(layer),
                "digest": _digest(layer),
            }
        ],
    }
    manifest = json.dumps(described).encode()
    return {
        "1": (_MANIFEST, manifest),
        _digest(manifest): (_MANIFEST, manifest),
        _digest(config): (kinds["config"], config),
        _digest(layer): (kinds["layer"], layer),
    }
