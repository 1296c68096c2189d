"""A reverse proxy that counts for itself what the calls through it use of the storages, from requests and answers."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import threading
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import brotli

_HOP = {"connection", "transfer-encoding", "keep-alive", "host", "content-length"}
_DECODERS = {"br": brotli.decompress, "gzip": gzip.decompress, "deflate": zlib.decompress}


class CountingProxy:
    """``usage`` holds what the calls of each token used by the names of the API, ``body_bytes`` what they moved."""

    def __init__(self, target: str) -> None:
        self.usage: dict[str, Counter[str]] = {}
        self.body_bytes: Counter[str] = Counter()
        self.calls: list[str] = []
        self._lock = threading.Lock()
        proxy, host = self, urlsplit(target).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                sent = self.rfile.read(int(self.headers.get("content-length") or 0))
                there = http.client.HTTPConnection(host, timeout=60)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                there.request(self.command, self.path, sent or None, headers)
                answer = there.getresponse()
                got = answer.read()
                proxy.note(self.command, self.path, dict(self.headers.items()), sent, answer, got)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                self.send_header("content-length", str(len(got)))
                self.end_headers()
                self.wfile.write(got)
                there.close()

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = forward  # noqa: N815

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def note(
        self, method: str, path: str, headers: dict[str, str], sent: bytes, answer: http.client.HTTPResponse, got: bytes
    ) -> None:
        lower = {name.lower(): value for name, value in headers.items()}
        token = lower["authorization"].removeprefix("Bearer ")
        query = parse_qs(urlsplit(path).query)
        with self._lock:
            self.calls.append(f"{method} {urlsplit(path).path} {answer.status}")
            self.body_bytes[token] += len(sent) + len(got)
            if answer.status < 300:
                used = self.usage.setdefault(token, Counter())
                body = _json(sent, lower.get("content-encoding"))
                found = _json(got, answer.headers.get("content-encoding"))
                _count(used, method, urlsplit(path).path, query, body, found)


def _json(raw: bytes, encoding: str | None) -> Any:
    plain = _DECODERS[encoding](raw) if encoding in _DECODERS else raw
    try:
        return json.loads(plain)
    except ValueError:
        return None


def _count(used: Counter[str], method: str, path: str, query: dict[str, list[str]], body: Any, found: Any) -> None:
    data = found.get("data") if isinstance(found, dict) else None
    if re.fullmatch(r"/v2/datasets/\w+/items", path):
        many = body if method == "POST" else found
        used["DATASET_WRITES" if method == "POST" else "DATASET_READS"] += len(many) if isinstance(many, list) else 1
    elif re.fullmatch(r"/v2/key-value-stores/\w+/records/[^/]+", path):
        used["KEY_VALUE_STORE_READS" if method in ("GET", "HEAD") else "KEY_VALUE_STORE_WRITES"] += 1
    elif re.fullmatch(r"/v2/key-value-stores/\w+/keys", path):
        used["KEY_VALUE_STORE_LISTS"] += 1
    elif path.startswith("/v2/request-queues/"):
        _count_queue(used, method, path.split("/")[4:], body, data)


def _count_queue(used: Counter[str], method: str, rest: list[str], body: Any, data: Any) -> None:
    reads, writes = "REQUEST_QUEUE_READS", "REQUEST_QUEUE_WRITES"
    match method, rest:
        case "GET", ["head"] | ["requests"]:
            used[reads] += len(data["items"])
        case "POST", ["head", "lock"]:
            used[writes] += len(data["items"])
        case "POST", ["requests", "batch"]:
            used[writes] += len(body)
        case "DELETE", ["requests", "batch"]:
            used[writes] += len(data["processedRequests"])
        case "POST", ["requests", "unlock"]:
            used[writes] += data["unlockedCount"]
        case "GET", ["requests", _]:
            used[reads] += 1
        case (("POST" | "PUT" | "DELETE"), ["requests", *_]):
            used[writes] += 1
