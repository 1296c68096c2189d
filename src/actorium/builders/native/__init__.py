"""The native builder: interprets a Dockerfile without Docker, for Python and Node.js."""

from actorium.builders.native.builder import NativeBuilder

__all__ = ["NativeBuilder"]
