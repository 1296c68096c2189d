"""An Apify API as seen by one user, through the stock client's connection: JSON in, JSON out, nothing validated."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import IO, Any

from apify_client import ApifyClient
from apify_client.errors import ApifyApiError

_PAGE = 1000
_NOT_FOUND = 404


class Api:
    """Calls of one user. ``url`` is the API's without ``/v2``. Errors are the client's ``ApifyApiError``."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._client = ApifyClient(token, api_url=self.url)
        self.username: str = self.get("users/me")["username"]

    def _call(self, method: str, path: str, **more: Any) -> Any:
        return self._client.http_client.call(method=method, url=f"{self.url}/v2/{path}", **more)

    def get(self, path: str, **params: Any) -> Any:
        """The ``data`` of an answer."""
        return self._call("GET", path, params=params).json()["data"]

    def find(self, path: str) -> Any | None:
        """The ``data`` of an answer, ``None`` for what is not there."""
        try:
            return self.get(path)
        except ApifyApiError as error:
            if error.status_code == _NOT_FOUND:
                return None
            raise

    def pages(self, path: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Every item of a list."""
        offset = 0
        while items := self.get(path, offset=offset, limit=_PAGE, **params)["items"]:
            yield from items
            offset += len(items)

    def send(self, method: str, path: str, body: Any, **params: Any) -> Any:
        """The ``data`` of the answer to a change; ``None`` where it has none."""
        answer = self._call(method, path, json=body, params=params)
        return answer.json().get("data") if answer.content else None

    def lines(self, path: str, **params: Any) -> list[bytes]:
        """The lines of a text."""
        text: bytes = self._call("GET", path, params=params, timeout="long").content
        return [line for line in text.split(b"\n") if line]

    def download(self, path: str, target: IO[bytes]) -> str:
        """Write an answer to ``target`` as it comes; returns its content type."""
        answer = self._call("GET", path, stream=True, timeout="long")
        try:
            for chunk in answer.iter_bytes():
                target.write(chunk)
            return str(answer.headers.get("content-type") or "application/octet-stream")
        finally:
            answer.close()

    def upload(self, path: str, source: IO[bytes], content_type: str) -> None:
        """Send a file."""
        with warnings.catch_warnings():
            # The client calls sending a file piece by piece experimental.
            warnings.simplefilter("ignore", UserWarning)
            self._call("PUT", path, data=source, headers={"Content-Type": content_type}, timeout="long")
