"""The URLs under which a run's web server and the Standby server of an Actor are reached.

Each has two forms. With a domain the name comes first (``http://<slug>.runs.localhost:3333/``), so that pages see an
origin of their own; a path on the server's own address (``/actorium/runs-web/<slug>/``) needs no wildcard in the DNS.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import msgspec

RUNS_PATH = "/actorium/runs-web/"
STANDBY_PATH = "/actorium/standby/"

_MAX_LABEL = 63
"""Longest part of a host name between two dots. RFC 1035."""
_NOT_DNS_SAFE = re.compile(r"[^a-z0-9-]")


class WebAddresses(msgspec.Struct, frozen=True):
    """``public_base_url`` gives scheme and port; a domain that is empty stands for the form with a path."""

    public_base_url: str
    runs_domain: str
    standby_domain: str

    @classmethod
    def of(cls, public_base_url: str, runs_domain: str, standby_domain: str) -> WebAddresses:
        """With domains below ``localhost`` where none is given and the server is for this machine alone."""
        if _is_this_machine(urlsplit(public_base_url).hostname or ""):
            runs_domain = runs_domain or "runs.localhost"
            standby_domain = standby_domain or "standby.localhost"
        return cls(public_base_url.rstrip("/"), runs_domain.lower(), standby_domain.lower())

    def container_url(self, slug: str) -> str:
        """``containerUrl`` of the run with this slug."""
        return self._host_url(slug, self.runs_domain) or f"{self.public_base_url}{RUNS_PATH}{slug}"

    def standby_url(self, owner_id: str, username: str, name: str) -> str:
        """The Standby server of an Actor or task: ``owner_id`` is its id, for names too long for a host name."""
        label = f"{dns_safe(username)}--{name.lower()}"
        label = label if len(label) <= _MAX_LABEL else owner_id.lower()
        return self._host_url(label, self.standby_domain) or f"{self.public_base_url}{STANDBY_PATH}{username}~{name}"

    def run_slug(self, host: str) -> str | None:
        """The run's slug in a ``Host`` header, if it is below the domain of runs."""
        return _label(host, self.runs_domain)

    def standby_label(self, host: str) -> str | None:
        """What stands before the domain of Standby servers in a ``Host`` header."""
        return _label(host, self.standby_domain)

    def _host_url(self, label: str, domain: str) -> str | None:
        if not domain:
            return None
        base = urlsplit(self.public_base_url)
        return f"{base.scheme}://{label}.{domain}{f':{base.port}' if base.port else ''}"


def dns_safe(username: str) -> str:
    """A username as a part of a host name: dots and underscores become hyphens."""
    return _NOT_DNS_SAFE.sub("-", username.lower())


def _label(host: str, domain: str) -> str | None:
    name = host.partition(":")[0].rstrip(".").lower()
    if not domain or not name.endswith(domain) or name[-len(domain) - 1 : -len(domain)] != ".":
        return None
    label = name[: -len(domain) - 1]
    return label if label and "." not in label else None


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
