"""Runs attempts as containers of a Docker engine (or Podman's Docker-compatible service)."""

from actorium.runtimes.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]
