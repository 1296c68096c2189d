"""Every error a client can see: one enum of types with their HTTP status, one exception."""

from __future__ import annotations

from enum import Enum
from typing import Any


class ErrorType(Enum):
    """The platform's error types: ``(type string, HTTP status)``. Sources: openapi ErrorType, docs."""

    ACTOR_MEMORY_LIMIT_EXCEEDED = ("actor-memory-limit-exceeded", 402)
    ACTOR_NAME_NOT_UNIQUE = ("actor-name-not-unique", 409)
    ACTOR_TASK_NAME_NOT_UNIQUE = ("actor-task-name-not-unique", 409)
    BUILD_NOT_FOUND = ("build-not-found", 403)
    CANNOT_PUBLISH_ACTOR = ("cannot-publish-actor", 400)
    CANNOT_PUBLISH_ACTOR_TASK = ("cannot-publish-actor-task", 400)
    CANNOT_ADD_APIFY_EVENTS_TO_PPE_ACTOR = ("cannot-add-apify-events-to-ppe-actor", 400)
    CANNOT_ADD_MULTIPLE_PRICING_INFOS = ("cannot-add-multiple-pricing-infos", 400)
    CANNOT_ADD_PRICING_INFO_THAT_ALTERS_PAST = ("cannot-add-pricing-info-that-alters-past", 400)
    CANNOT_ADD_SECOND_FUTURE_PRICING_INFO = ("cannot-add-second-future-pricing-info", 400)
    CANNOT_CHARGE_APIFY_EVENT = ("cannot-charge-apify-event", 405)
    CANNOT_CHARGE_NON_PAY_PER_EVENT_ACTOR = ("cannot-charge-non-pay-per-event-actor", 405)
    CANNOT_DISABLE_ONE_TIME_EVENT_FOR_APIFY_START_EVENT = ("cannot-disable-one-time-event-for-apify-start-event", 400)
    CANNOT_METAMORPH_TO_PAY_PER_RESULT_ACTOR = ("cannot-metamorph-to-pay-per-result-actor", 403)
    CANNOT_REMOVE_PRICING_INFO = ("cannot-remove-pricing-info", 400)
    CANNOT_REMOVE_RUNNING_RUN = ("cannot-remove-running-run", 400)
    CANNOT_RENAME_ENV_VAR = ("cannot-rename-env-var", 403)
    CANNOT_SET_IS_STATUS_MESSAGE_TERMINAL = ("cannot-set-is-status-message-terminal", 400)
    CRON_EXPRESSION_INVALID = ("cron-expression-invalid", 400)
    CONCURRENT_RUNS_LIMIT_EXCEEDED = ("concurrent-runs-limit-exceeded", 403)
    DATASET_SCHEMA_INVALID = ("dataset-schema-invalid", 400)
    DEFAULT_DATASET_NOT_FOUND = ("default-dataset-not-found", 400)
    DELETING_DEFAULT_BUILD = ("deleting-default-build", 400)
    DELETING_UNFINISHED_BUILD = ("deleting-unfinished-build", 400)
    ENV_VAR_ALREADY_EXISTS = ("env-var-already-exists", 403)
    INPUT_JSON_NOT_OBJECT = ("input-json-not-object", 403)
    FULL_PERMISSION_ACTOR_NOT_APPROVED = ("full-permission-actor-not-approved", 403)
    ID_DOES_NOT_MATCH = ("id-does-not-match", 400)
    INCORRECT_PRICING_MODIFIER_PREFIX = ("incorrect-pricing-modifier-prefix", 400)
    INSUFFICIENT_PERMISSIONS = ("insufficient-permissions", 403)
    INVALID_IDEMPOTENCY_KEY = ("invalid-idempotency-key", 409)
    INTERNAL_SERVER_ERROR = ("internal-server-error", 500)
    INVALID_BUILD = ("invalid-build", 403)
    INVALID_CLIENT_KEY = ("invalid-client-key", 400)
    INVALID_COLLECTION = ("invalid-collection", 400)
    INVALID_CONTENT_TYPE_HEADER = ("invalid-content-type-header", 400)
    INVALID_INPUT = ("invalid-input", 400)
    INVALID_INPUT_SCHEMA = ("invalid-input-schema", 400)
    INVALID_PICTURE_URL = ("invalid-picture-url", 400)
    INVALID_RECORD_KEY = ("invalid-record-key", 400)
    INVALID_REQUEST = ("invalid-request", 400)
    INVALID_SIGNATURE = ("invalid-signature", 400)
    INVALID_TOKEN = ("invalid-token", 401)
    INVALID_VALUE = ("invalid-value", 400)
    INVALID_RESOURCE_TYPE = ("invalid-resource-type", 400)
    JOB_FINISHED = ("job-finished", 403)
    MAX_ITEMS_MUST_BE_GREATER_THAN_ZERO = ("max-items-must-be-greater-than-zero", 400)
    MAX_METAMORPHS_EXCEEDED = ("max-metamorphs-exceeded", 400)
    MAX_TOTAL_CHARGE_USD_BELOW_MINIMUM = ("max-total-charge-usd-below-minimum", 400)
    MAX_TOTAL_CHARGE_USD_MUST_BE_GREATER_THAN_ZERO = ("max-total-charge-usd-must-be-greater-than-zero", 400)
    METHOD_NOT_ALLOWED = ("method-not-allowed", 405)
    NAME_NOT_UNIQUE = ("name-not-unique", 409)
    NEXT_RUNTIME_COMPUTATION_FAILED = ("next-runtime-computation-failed", 400)
    OUT_OF_DISK_SPACE = ("out-of-disk-space", 507)
    PAGE_NOT_FOUND = ("page-not-found", 404)
    PARAMETERS_MISMATCHED = ("parameters-mismatched", 400)
    PLATFORM_FEATURE_DISABLED = ("platform-feature-disabled", 402)
    PRECONDITION_FAILED = ("precondition-failed", 412)
    RANGE_NOT_SATISFIABLE = ("range-not-satisfiable", 416)
    RECORD_NOT_FOUND = ("record-not-found", 404)
    RECORD_TOO_LARGE = ("record-too-large", 413)
    REQUEST_HANDLED_OR_LOCKED = ("request-handled-or-locked", 400)
    REQUEST_ID_INVALID = ("request-id-invalid", 400)
    REQUESTED_DATASET_VIEW_DOES_NOT_EXIST = ("requested-dataset-view-does-not-exist", 400)
    REQUEST_TOO_LARGE = ("request-too-large", 413)
    RUN_FAILED = ("run-failed", 400)
    RUN_INPUT_BODY_NOT_VALID_JSON = ("run-input-body-not-valid-json", 400)
    RUN_NOT_RUNNING = ("run-not-running", 404)
    RUN_TIMEOUT_EXCEEDED = ("run-timeout-exceeded", 408)
    SCHEDULE_ACTOR_NOT_FOUND = ("schedule-actor-not-found", 404)
    SCHEDULE_ACTOR_TASK_NOT_FOUND = ("schedule-actor-task-not-found", 404)
    SCHEDULE_NAME_NOT_UNIQUE = ("schedule-name-not-unique", 409)
    SCHEMA_VALIDATION = ("schema-validation", 400)
    SCHEMA_VALIDATION_ERROR = ("schema-validation-error", 400)
    STANDBY_BAD_GATEWAY = ("standby-bad-gateway", 502)
    STANDBY_NOT_ENABLED = ("standby-not-enabled", 400)
    STANDBY_RUN_FINISHED = ("standby-run-finished", 503)
    STANDBY_RUN_NOT_READY = ("standby-run-not-ready", 504)
    STORE_SCHEMA_INVALID = ("store-schema-invalid", 400)
    TOKEN_NOT_PROVIDED = ("token-not-provided", 401)
    TOO_MANY_ACTOR_TASKS = ("too-many-actor-tasks", 400)
    TOO_MANY_ACTORS = ("too-many-actors", 400)
    TOO_MANY_VERSIONS = ("too-many-versions", 403)
    TOO_MANY_SCHEDULES = ("too-many-schedules", 403)
    TOO_MANY_VALUES = ("too-many-values", 403)
    TOO_MANY_WEBHOOKS = ("too-many-webhooks", 403)
    UNKNOWN_BUILD_TAG = ("unknown-build-tag", 403)
    UNSUPPORTED_CONTENT_ENCODING = ("unsupported-content-encoding", 415)
    USER_NOT_AUTHENTICATED = ("user-not-authenticated", 401)
    VERSION_ALREADY_EXISTS = ("version-already-exists", 403)
    WEB_SERVER_UNREACHABLE = ("web-server-unreachable", 502)
    VERSIONS_SIZE_EXCEEDED = ("versions-size-exceeded", 403)

    @property
    def code(self) -> str:
        """The ``error.type`` string."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status it is answered with."""
        return self.value[1]


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


def refused(message: str) -> ApiError:
    """400 ``schema-validation``."""
    return ApiError(ErrorType.SCHEMA_VALIDATION, message)
