"""Builds Actors without Docker: interprets the Dockerfile with the machine's Python, Node.js and browser."""

from actorium.builders.native.builder import NativeBuilder
from actorium.builders.native.machine import Machine

__all__ = ["Machine", "NativeBuilder"]
