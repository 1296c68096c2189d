"""Builds Actors into images of a Docker engine (or Podman's Docker-compatible service)."""

from actorium.builders.docker.builder import DockerBuilder

__all__ = ["DockerBuilder"]
