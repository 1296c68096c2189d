"""The key pair by which Git servers know an Actor, made of the instance key, so that nothing has to be kept.

docs: source types, private repositories.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


class DeploymentKeys:
    """The key pairs of all Actors of a server: the same ones for every server with this ``instance_key``."""

    def __init__(self, instance_key: bytes) -> None:
        self._instance_key = instance_key

    def public(self, actor_id: str) -> str:
        """What is entered at the Git server, in the form of ``authorized_keys``."""
        line = self._pair(actor_id).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return f"{line.decode()} actor-{actor_id}"

    def private(self, actor_id: str) -> str:
        """What ``ssh`` reads from its identity file."""
        raw = self._pair(actor_id).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        return raw.decode()

    def _pair(self, actor_id: str) -> Ed25519PrivateKey:
        seed = hmac.digest(self._instance_key, b"deployment-key " + actor_id.encode(), "sha256")
        return Ed25519PrivateKey.from_private_bytes(seed)
