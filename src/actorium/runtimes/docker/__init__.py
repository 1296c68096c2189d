"""Runs attempts as containers of a Docker engine (or Podman's Docker-compatible service)."""

from actorium.runtimes.docker.engine import DockerEngine
from actorium.runtimes.docker.report import EngineReport, examine
from actorium.runtimes.docker.runtime import DockerRuntime

__all__ = ["DockerEngine", "DockerRuntime", "EngineReport", "examine"]
