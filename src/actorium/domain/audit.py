"""The audit log's entries: who did what, when, from where, with which token, on what, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

SUCCESS = "success"
"""The outcome of what was done; of what was refused it is the type of the error."""


class Caller(msgspec.Struct, frozen=True):
    """Who asks for a change. ``reference`` is how the call names the resource, empty where it names none.

    ``claims_for`` is the token with a scope that gets what the call creates; ``restricts_runs`` whether runs it
    starts are bound to that scope.
    """

    user_id: str | None
    username: str
    token_id: str | None
    operation: str
    run_id: str | None = None
    reference: str = ""
    client_ip: str | None = None
    user_agent: str | None = None
    claims_for: str | None = None
    restricts_runs: bool = False


class AuditEntry(msgspec.Struct, frozen=True):
    """One entry. ``at`` is in milliseconds since the epoch, ``operation`` the API's operation or the command."""

    id: str
    at: int
    user_id: str | None
    username: str
    token_id: str | None
    run_id: str | None
    operation: str
    action: str
    resource_type: str
    resource_id: str
    outcome: str
    client_ip: str | None
    user_agent: str | None


class Action(msgspec.Struct, frozen=True):
    """What a change is called: ``resource_type.verb``. ``creates``: it may make a resource."""

    resource_type: str
    verb: str
    creates: bool = False

    @property
    def name(self) -> str:
        """As the log shows it."""
        return f"{self.resource_type}.{self.verb}"


ACTIONS: Mapping[str, Action] = {
    "add user": Action("user", "create", creates=True),
    "remove user": Action("user", "delete"),
    "set role": Action("user", "set-role"),
    "set limits": Action("user", "set-limits"),
    "create token": Action("token", "create", creates=True),
    "rotate token": Action("token", "rotate"),
    "revoke token": Action("token", "revoke"),
    "create Actor": Action("actor", "create", creates=True),
    "update Actor": Action("actor", "update"),
    "delete Actor": Action("actor", "delete"),
    "change version": Action("actor", "change-version"),
    "approve permissions": Action("actor", "approve"),
    "withdraw approval": Action("actor", "withdraw-approval"),
    "start build": Action("build", "start", creates=True),
    "abort build": Action("build", "abort"),
    "delete build": Action("build", "delete"),
    "start run": Action("run", "start", creates=True),
    "abort run": Action("run", "abort"),
    "resurrect run": Action("run", "resurrect"),
    "reboot run": Action("run", "reboot"),
    "metamorph run": Action("run", "metamorph"),
    "migrate run": Action("run", "migrate"),
    "update run": Action("run", "update"),
    "delete run": Action("run", "delete"),
    "create task": Action("task", "create", creates=True),
    "update task": Action("task", "update"),
    "delete task": Action("task", "delete"),
    "create schedule": Action("schedule", "create", creates=True),
    "update schedule": Action("schedule", "update"),
    "delete schedule": Action("schedule", "delete"),
    "invoke schedule": Action("schedule", "invoke"),
    "create webhook": Action("webhook", "create", creates=True),
    "update webhook": Action("webhook", "update"),
    "delete webhook": Action("webhook", "delete"),
    "test webhook": Action("dispatch", "test"),
    **{
        f"{write} {kind}": Action(kind.replace(" ", "-"), verb, creates=verb == "create")
        for kind in ("dataset", "key-value store", "request queue")
        for write, verb in (("get or create", "create"), ("update", "update"), ("delete", "delete"))
    },
}
"""What is logged, by the description of the write that does it. What runs write all the time is not among it."""
