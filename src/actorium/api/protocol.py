"""The HTTP protocol of the server: uvicorn's, with a limit on what comes before the body, and errors as the API's."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from actorium.api.http import error_response
from actorium.domain.errors import invalid

MAX_HEAD_BYTES = 256 * 1024
"""Longest request line and headers together. A queue's or dataset's parameters need a few kilobytes."""


class HttpProtocol(HttpToolsProtocol):
    """One connection. uvicorn itself would take in a head of any length before anybody is asked who sent it."""

    _is_in_head = True
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came, and refuse a head that does not end."""
        super().data_received(data)
        if self._is_in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response(f"The request line and headers are longer than {MAX_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next byte begins another head."""
        super().on_message_complete()
        self._is_in_head, self._head_bytes = True, 0

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP request, and close."""
        response = error_response(invalid(msg))
        headers = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n%sconnection: close\r\n\r\n%s" % (headers, response.body))
        self.transport.close()
