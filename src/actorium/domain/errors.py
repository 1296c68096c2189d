"""Every error a client can see: one enum of types with their HTTP status, one exception."""

from __future__ import annotations

from enum import Enum
from typing import Any


class ErrorType(Enum):
    """The platform's error types: ``(type string, HTTP status, when)``. Sources: openapi ErrorType, docs."""

    ACTOR_MEMORY_LIMIT_EXCEEDED = (
        "actor-memory-limit-exceeded",
        402,
        "a run asks for more memory than there is for it, or than is free where runs do not queue",
    )
    ACTOR_NAME_NOT_UNIQUE = ("actor-name-not-unique", 409, "another of the user's Actors has this name")
    ACTOR_TASK_NAME_NOT_UNIQUE = ("actor-task-name-not-unique", 409, "another of the user's tasks has this name")
    BUILD_NOT_FOUND = ("build-not-found", 403, "the Actor has no build with this number")
    CANNOT_PUBLISH_ACTOR = ("cannot-publish-actor", 400, "a public Actor would lack a title or a category")
    CANNOT_PUBLISH_ACTOR_TASK = (
        "cannot-publish-actor-task",
        400,
        "a public task would lack what its page shows; the message names it",
    )
    CANNOT_ADD_APIFY_EVENTS_TO_PPE_ACTOR = (
        "cannot-add-apify-events-to-ppe-actor",
        400,
        "an event of a price begins with `apify-` and is none the platform knows",
    )
    CANNOT_ADD_MULTIPLE_PRICING_INFOS = ("cannot-add-multiple-pricing-infos", 400, "an update adds more than one price")
    CANNOT_ADD_PRICING_INFO_THAT_ALTERS_PAST = (
        "cannot-add-pricing-info-that-alters-past",
        400,
        "a price begins before one that exists",
    )
    CANNOT_ADD_SECOND_FUTURE_PRICING_INFO = (
        "cannot-add-second-future-pricing-info",
        400,
        "there is a price already that is still to come",
    )
    CANNOT_CHARGE_APIFY_EVENT = (
        "cannot-charge-apify-event",
        405,
        "a run charges an event that the platform charges itself",
    )
    CANNOT_CHARGE_NON_PAY_PER_EVENT_ACTOR = (
        "cannot-charge-non-pay-per-event-actor",
        405,
        "a run charges, and its Actor has no prices of events",
    )
    CANNOT_DISABLE_ONE_TIME_EVENT_FOR_APIFY_START_EVENT = (
        "cannot-disable-one-time-event-for-apify-start-event",
        400,
        "the event of a start is made one that counts more than once",
    )
    CANNOT_METAMORPH_TO_PAY_PER_RESULT_ACTOR = (
        "cannot-metamorph-to-pay-per-result-actor",
        403,
        "a run would become one of an Actor that is paid per result",
    )
    CANNOT_REMOVE_PRICING_INFO = ("cannot-remove-pricing-info", 400, "an update leaves a price out")
    CANNOT_REMOVE_RUNNING_RUN = ("cannot-remove-running-run", 400, "a run that is not over is to be deleted")
    CANNOT_RENAME_ENV_VAR = ("cannot-rename-env-var", 403, "another variable of the version has the new name")
    CANNOT_SET_IS_STATUS_MESSAGE_TERMINAL = (
        "cannot-set-is-status-message-terminal",
        400,
        "a message is called terminal without there being one",
    )
    CRON_EXPRESSION_INVALID = ("cron-expression-invalid", 400, "the expression cannot be read")
    CONCURRENT_RUNS_LIMIT_EXCEEDED = (
        "concurrent-runs-limit-exceeded",
        403,
        "the user has as many runs as allowed, where runs do not queue",
    )
    DATASET_SCHEMA_INVALID = ("dataset-schema-invalid", 400, "the schema for a dataset is none")
    DEFAULT_DATASET_NOT_FOUND = ("default-dataset-not-found", 400, "the run has no default dataset any more")
    DELETING_DEFAULT_BUILD = ("deleting-default-build", 400, "the build that the Actor's runs use is to be deleted")
    DELETING_UNFINISHED_BUILD = ("deleting-unfinished-build", 400, "a build that is not over is to be deleted")
    ENV_VAR_ALREADY_EXISTS = ("env-var-already-exists", 403, "the version has a variable of this name")
    INPUT_JSON_NOT_OBJECT = ("input-json-not-object", 403, "the input of a task is no JSON object")
    FULL_PERMISSION_ACTOR_NOT_APPROVED = (
        "full-permission-actor-not-approved",
        403,
        "somebody else's Actor wants full permissions; `data.approvalUrl` is where to give them",
    )
    ID_DOES_NOT_MATCH = ("id-does-not-match", 400, "a webhook is tested with a run or build that it does not wait for")
    INCORRECT_PRICING_MODIFIER_PREFIX = (
        "incorrect-pricing-modifier-prefix",
        400,
        "an update changes a price that exists",
    )
    INSUFFICIENT_PERMISSIONS = ("insufficient-permissions", 403, "the token is good, but may not do this")
    INVALID_IDEMPOTENCY_KEY = ("invalid-idempotency-key", 409, "the key was used for another call")
    INTERNAL_SERVER_ERROR = ("internal-server-error", 500, "a fault of the server; its log says more")
    INVALID_BUILD = ("invalid-build", 403, "the build has not succeeded")
    INVALID_CLIENT_KEY = ("invalid-client-key", 400, "the client key of a request queue is too short or too long")
    INVALID_COLLECTION = ("invalid-collection", 400, "the key-value store's schema has no such collection")
    INVALID_CONTENT_TYPE_HEADER = (
        "invalid-content-type-header",
        400,
        "the header is no media type, or not one that is taken here",
    )
    INVALID_INPUT = (
        "invalid-input",
        400,
        "the input does not fit the Actor's input schema, or the run's status forbids what is asked",
    )
    INVALID_INPUT_SCHEMA = ("invalid-input-schema", 400, "the input schema of the build is none")
    INVALID_PICTURE_URL = ("invalid-picture-url", 400, "the picture's address is no http or https URL")
    INVALID_RECORD_KEY = ("invalid-record-key", 400, "the key has characters that are not allowed, or too many")
    INVALID_REQUEST = ("invalid-request", 400, "a parameter, header or body cannot be read; the message names it")
    INVALID_SIGNATURE = ("invalid-signature", 400, "a signed value was changed, or signed elsewhere")
    INVALID_TOKEN = ("invalid-token", 401, "the token is unknown, revoked or expired")
    INVALID_VALUE = ("invalid-value", 400, "the value is none that the field may have")
    INVALID_RESOURCE_TYPE = (
        "invalid-resource-type",
        400,
        "a webhook is tested with a kind of resource that there is not",
    )
    JOB_FINISHED = ("job-finished", 403, "the run is over, and what is asked needs a live one")
    MAX_ITEMS_MUST_BE_GREATER_THAN_ZERO = ("max-items-must-be-greater-than-zero", 400, "`maxItems` is 0 or less")
    MAX_METAMORPHS_EXCEEDED = ("max-metamorphs-exceeded", 400, "the run has become another Actor's ten times")
    MAX_TOTAL_CHARGE_USD_BELOW_MINIMUM = (
        "max-total-charge-usd-below-minimum",
        400,
        "`maxTotalChargeUsd` is below what the Actor needs",
    )
    MAX_TOTAL_CHARGE_USD_MUST_BE_GREATER_THAN_ZERO = (
        "max-total-charge-usd-must-be-greater-than-zero",
        400,
        "`maxTotalChargeUsd` is 0 or less",
    )
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405, "there is something at this path, but not for this method")
    NAME_NOT_UNIQUE = ("name-not-unique", 409, "the name is taken")
    NEXT_RUNTIME_COMPUTATION_FAILED = ("next-runtime-computation-failed", 400, "the cron expression never comes true")
    OUT_OF_DISK_SPACE = ("out-of-disk-space", 507, "the server's disk is full; nothing was changed")
    PAGE_NOT_FOUND = ("page-not-found", 404, "there is nothing at this path")
    PARAMETERS_MISMATCHED = ("parameters-mismatched", 400, "parameters contradict each other, or what the run has")
    PLATFORM_FEATURE_DISABLED = ("platform-feature-disabled", 402, "the budget of the month is used up")
    PRECONDITION_FAILED = ("precondition-failed", 412, "`If-Match` or `If-None-Match` does not hold")
    RANGE_NOT_SATISFIABLE = ("range-not-satisfiable", 416, "the record has no such bytes")
    RECORD_NOT_FOUND = ("record-not-found", 404, "there is no such thing, or the caller may not know of it")
    RECORD_TOO_LARGE = ("record-too-large", 413, "the record is larger than allowed")
    REQUEST_HANDLED_OR_LOCKED = (
        "request-handled-or-locked",
        400,
        "a lock is prolonged or released that the client does not hold",
    )
    REQUEST_ID_INVALID = ("request-id-invalid", 400, "the id is not the one that the request's `uniqueKey` gives")
    REQUESTED_DATASET_VIEW_DOES_NOT_EXIST = (
        "requested-dataset-view-does-not-exist",
        400,
        "the dataset's schema has no such view",
    )
    REQUEST_TOO_LARGE = ("request-too-large", 413, "the body is larger than allowed, also after decompression")
    RUN_FAILED = ("run-failed", 400, "the run of a synchronous call did not succeed")
    RUN_INPUT_BODY_NOT_VALID_JSON = ("run-input-body-not-valid-json", 400, "the input is called JSON and is not")
    RUN_NOT_RUNNING = ("run-not-running", 404, "the web server of a run is asked, and the run has none now")
    RUN_TIMEOUT_EXCEEDED = (
        "run-timeout-exceeded",
        408,
        "the run of a synchronous call takes longer than 300 seconds; it goes on",
    )
    SCHEDULE_ACTOR_NOT_FOUND = ("schedule-actor-not-found", 404, "an action names an Actor that there is not")
    SCHEDULE_ACTOR_TASK_NOT_FOUND = ("schedule-actor-task-not-found", 404, "an action names a task that there is not")
    SCHEDULE_NAME_NOT_UNIQUE = ("schedule-name-not-unique", 409, "another of the user's schedules has this name")
    SCHEMA_VALIDATION = ("schema-validation", 400, "a field has a value that it may not have; the message names it")
    SCHEMA_VALIDATION_ERROR = (
        "schema-validation-error",
        400,
        "items or records do not fit the storage's schema; `data` says which and why",
    )
    STANDBY_BAD_GATEWAY = ("standby-bad-gateway", 502, "the run of a Standby server did not answer")
    STANDBY_NOT_ENABLED = ("standby-not-enabled", 400, "Standby is off for the Actor or task")
    STANDBY_RUN_FINISHED = ("standby-run-finished", 503, "the run of a Standby server ended before it answered")
    STANDBY_RUN_NOT_READY = ("standby-run-not-ready", 504, "no run of a Standby server was ready in time")
    STORE_SCHEMA_INVALID = ("store-schema-invalid", 400, "the schema for a key-value store is none")
    TOKEN_NOT_PROVIDED = ("token-not-provided", 401, "a token is needed here")
    TOO_MANY_ACTOR_TASKS = ("too-many-actor-tasks", 403, "the user has as many tasks as allowed")
    TOO_MANY_ACTORS = ("too-many-actors", 403, "the user has as many Actors as allowed")
    TOO_MANY_VERSIONS = ("too-many-versions", 403, "the Actor has as many versions as allowed")
    TOO_MANY_SCHEDULES = ("too-many-schedules", 403, "the user has as many schedules as allowed")
    TOO_MANY_VALUES = ("too-many-values", 403, "a schedule has as many Actors or tasks as allowed")
    TOO_MANY_WEBHOOKS = ("too-many-webhooks", 403, "the user has as many webhooks as allowed")
    UNKNOWN_BUILD_TAG = ("unknown-build-tag", 403, "no build has this tag")
    UNSUPPORTED_CONTENT_ENCODING = (
        "unsupported-content-encoding",
        415,
        "the body is encoded in a way that is not read here",
    )
    USER_NOT_AUTHENTICATED = (
        "user-not-authenticated",
        401,
        "a Standby server is called without a token that may use it",
    )
    VERSION_ALREADY_EXISTS = ("version-already-exists", 403, "the Actor has a version of this number")
    WEB_SERVER_UNREACHABLE = ("web-server-unreachable", 502, "nothing listens where the run's web server should be")
    VERSIONS_SIZE_EXCEEDED = (
        "versions-size-exceeded",
        403,
        "the source files of all versions are larger than allowed together",
    )

    @property
    def code(self) -> str:
        """The ``error.type`` string."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status it is answered with."""
        return self.value[1]

    @property
    def meaning(self) -> str:
        """When it is answered, for the documentation."""
        return self.value[2]


def error_table() -> str:
    """All error types as a table in Markdown."""
    rows = sorted((found.code, found.status, found.meaning) for found in ErrorType)
    lines = [f"| `{code}` | {status} | {meaning} |" for code, status, meaning in rows]
    return "\n".join(["| `type` | Status | Answered when |", "| --- | --- | --- |", *lines]) + "\n"


class ApiError(Exception):
    """A refusal the client sees as ``{"error": {"type", "message", "data"?}}``."""

    def __init__(self, error_type: ErrorType, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.type = error_type
        self.message = message
        self.data = data


def not_found(what: str) -> ApiError:
    """404 ``record-not-found``: ``what`` is the resource in the API's words (``Actor run``)."""
    return ApiError(ErrorType.RECORD_NOT_FOUND, f"{what} was not found")


def invalid(message: str) -> ApiError:
    """400 ``invalid-request`` with a message that names the field, the value and what is allowed."""
    return ApiError(ErrorType.INVALID_REQUEST, message)


def sign_in_failed(why: str) -> ApiError:
    """401 ``user-not-authenticated``."""
    return ApiError(ErrorType.USER_NOT_AUTHENTICATED, f"Sign-in failed: {why}")


def refused(message: str) -> ApiError:
    """400 ``schema-validation``."""
    return ApiError(ErrorType.SCHEMA_VALIDATION, message)
