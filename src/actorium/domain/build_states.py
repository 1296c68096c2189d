"""The life of a build as data."""

from __future__ import annotations

from actorium.domain.models import JobStatus

_S = JobStatus

BUILD_TRANSITIONS: dict[JobStatus, dict[JobStatus, str]] = {
    _S.READY: {_S.RUNNING: "builder free", _S.ABORTED: "abort"},
    _S.RUNNING: {
        _S.SUCCEEDED: "image made",
        _S.FAILED: "cannot be built",
        _S.TIMING_OUT: "timeout reached",
        _S.ABORTING: "abort",
        _S.READY: "server restarted",
    },
    _S.TIMING_OUT: {_S.TIMED_OUT: "builder stopped", _S.ABORTING: "abort"},
    _S.ABORTING: {_S.ABORTED: "builder stopped"},
    _S.SUCCEEDED: {},
    _S.FAILED: {},
    _S.TIMED_OUT: {},
    _S.ABORTED: {},
}
"""Every allowed change of a build's status, with what causes it."""
