-- Times are milliseconds since the epoch, booleans 0 or 1, *_json columns JSON text.

CREATE TABLE users (
  id TEXT PRIMARY KEY,
  username TEXT NOT NULL,
  username_key TEXT NOT NULL UNIQUE,
  email TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  role TEXT NOT NULL DEFAULT 'USER'
);

-- What one user may use at once, where it is not what the settings say; NULL: as they say.
CREATE TABLE user_limits (
  user_id TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  max_memory_mbytes BIGINT,
  max_concurrent_runs BIGINT,
  max_monthly_usage_usd DOUBLE PRECISION,
  data_retention_days BIGINT
);

CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  token_hash TEXT NOT NULL UNIQUE,
  created_at BIGINT NOT NULL,
  expires_at BIGINT,
  revoked_at BIGINT,
  last_used_at BIGINT,
  -- NULL: everything its user may do.
  scope_json TEXT
);
CREATE INDEX tokens_by_user ON tokens (user_id, created_at);

-- Accounts with identity providers whose users have signed in.
CREATE TABLE user_identities (
  issuer TEXT NOT NULL,
  subject TEXT NOT NULL,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  PRIMARY KEY (issuer, subject)
);
CREATE INDEX user_identities_by_user ON user_identities (user_id);

-- What tokens with a scope have created. restricts: a run that is bound to the token's scope.
CREATE TABLE token_claims (
  resource_id TEXT NOT NULL,
  token_id TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
  restricts SMALLINT NOT NULL,
  PRIMARY KEY (resource_id, token_id)
);
CREATE INDEX token_claims_by_token ON token_claims (token_id);

-- Who did what. It outlives everything it tells of.
CREATE TABLE audit_log (
  id TEXT PRIMARY KEY,
  at BIGINT NOT NULL,
  user_id TEXT,
  username TEXT NOT NULL,
  token_id TEXT,
  run_id TEXT,
  operation TEXT NOT NULL,
  action TEXT NOT NULL,
  resource_type TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  outcome TEXT NOT NULL,
  client_ip TEXT,
  user_agent TEXT
);
CREATE INDEX audit_log_by_time ON audit_log (at, id);
CREATE INDEX audit_log_by_user ON audit_log (user_id, at, id);
CREATE INDEX audit_log_by_resource ON audit_log (resource_id, at, id);

CREATE TABLE actors (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  default_run_options_json TEXT NOT NULL,
  fields_json TEXT NOT NULL,
  is_public SMALLINT NOT NULL DEFAULT 0,
  dev_json TEXT,
  UNIQUE (user_id, name_key)
);
CREATE INDEX actors_public ON actors (id) WHERE is_public = 1;

-- Actors of others that a user lets run with full permissions.
CREATE TABLE permission_approvals (
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  actor_id TEXT NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
  approved_at BIGINT NOT NULL,
  PRIMARY KEY (user_id, actor_id)
);

CREATE TABLE versions (
  actor_id TEXT NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
  version_number TEXT NOT NULL,
  sort_key BIGINT NOT NULL,
  source_type TEXT NOT NULL,
  source_files_json TEXT NOT NULL,
  source_url TEXT,
  env_vars_json TEXT NOT NULL,
  apply_env_vars_to_build SMALLINT NOT NULL,
  build_tag TEXT,
  PRIMARY KEY (actor_id, version_number)
);

-- Key pairs for secret inputs; only the instance key opens the private half.
CREATE TABLE input_keys (
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  actor_id TEXT NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
  public_key TEXT NOT NULL,
  sealed_private_key TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (user_id, actor_id)
);

CREATE TABLE build_counters (
  actor_id TEXT NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
  version_number TEXT NOT NULL,
  last_patch INTEGER NOT NULL,
  PRIMARY KEY (actor_id, version_number)
);

CREATE TABLE builds (
  id TEXT PRIMARY KEY,
  actor_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  version_number TEXT NOT NULL,
  build_number TEXT NOT NULL,
  status TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  running_at BIGINT,
  finished_at BIGINT,
  tag TEXT,
  exit_code INTEGER,
  status_message TEXT,
  abort_requested SMALLINT NOT NULL DEFAULT 0,
  meta_json TEXT NOT NULL,
  options_json TEXT NOT NULL,
  env_vars_json TEXT NOT NULL,
  actor_version_json TEXT NOT NULL,
  image_kind TEXT,
  image_state_json TEXT,
  image_size_bytes BIGINT,
  actor_definition_json TEXT,
  input_schema TEXT,
  readme TEXT,
  changelog TEXT,
  -- Up to some megabytes: the last column, so that reading the others does not read it.
  source_files_json TEXT NOT NULL,
  UNIQUE (actor_id, build_number)
);
CREATE INDEX builds_by_user ON builds (user_id, started_at, id);
CREATE INDEX builds_by_actor ON builds (actor_id, started_at, id);
CREATE INDEX builds_live ON builds (status) WHERE status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING');

-- Images of deleted builds; removed by the build engine once no live run uses them.
CREATE TABLE image_garbage (
  build_id TEXT PRIMARY KEY,
  image_kind TEXT NOT NULL,
  image_state_json TEXT NOT NULL
);

CREATE TABLE build_tags (
  actor_id TEXT NOT NULL REFERENCES actors (id) ON DELETE CASCADE,
  tag TEXT NOT NULL,
  build_id TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
  PRIMARY KEY (actor_id, tag)
);
CREATE INDEX build_tags_by_build ON build_tags (build_id);

-- Tasks; options_json and input_json are NULL where the task has none. Counts are kept as runs start.
CREATE TABLE tasks (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  actor_id TEXT NOT NULL,
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  options_json TEXT,
  input_json TEXT,
  fields_json TEXT NOT NULL,
  total_runs BIGINT NOT NULL DEFAULT 0,
  last_run_started_at BIGINT,
  published_at BIGINT,
  UNIQUE (user_id, name_key)
);
CREATE INDEX tasks_by_user ON tasks (user_id, created_at, id);
CREATE INDEX tasks_by_actor ON tasks (actor_id);

-- Who ran an Actor, and how often: what deleted runs were counted as stays.
CREATE TABLE actor_users (
  actor_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  total_runs BIGINT NOT NULL,
  last_run_started_at BIGINT NOT NULL,
  PRIMARY KEY (actor_id, user_id)
);
CREATE INDEX actor_users_by_user ON actor_users (user_id);

-- How often runs of other Actors became runs of an Actor.
CREATE TABLE actor_metamorphs (
  actor_id TEXT PRIMARY KEY,
  total BIGINT NOT NULL
);

CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  actor_id TEXT NOT NULL,
  task_id TEXT,
  build_id TEXT NOT NULL,
  build_number TEXT NOT NULL,
  status TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  finished_at BIGINT,
  running_at BIGINT,
  timeout_at BIGINT,
  wanted TEXT NOT NULL,
  stop_at BIGINT,
  stop_reason TEXT,
  status_message TEXT,
  is_status_message_terminal SMALLINT,
  is_platform_message SMALLINT NOT NULL DEFAULT 0,
  exit_code INTEGER,
  origin TEXT NOT NULL,
  schedule_action_id TEXT,
  meta_json TEXT NOT NULL,
  options_json TEXT NOT NULL,
  stats_json TEXT NOT NULL,
  general_access TEXT NOT NULL,
  default_dataset_id TEXT NOT NULL,
  default_key_value_store_id TEXT NOT NULL,
  default_request_queue_id TEXT NOT NULL,
  storage_ids_json TEXT NOT NULL,
  metamorphs_json TEXT NOT NULL,
  container_slug TEXT NOT NULL UNIQUE,
  events_secret TEXT NOT NULL,
  workflow_key TEXT NOT NULL,
  web_server_host TEXT,
  web_server_port INTEGER,
  is_container_server_ready SMALLINT NOT NULL DEFAULT 0,
  standby_json TEXT,
  idle_at BIGINT,
  is_retired SMALLINT NOT NULL DEFAULT 0,
  queued_at BIGINT NOT NULL,
  queue_rank BIGINT NOT NULL,
  memory_mbytes BIGINT NOT NULL,
  parent_run_id TEXT,
  sealed_secrets TEXT,
  abort_children_at BIGINT,
  pricing_info_json TEXT,
  charged_event_counts_json TEXT,
  charging_stopped_at BIGINT,
  permission_level TEXT NOT NULL,
  storage_grants_json TEXT NOT NULL
);
CREATE INDEX runs_by_user ON runs (user_id, started_at, id);
CREATE INDEX runs_by_actor ON runs (actor_id, user_id, started_at, id);
CREATE INDEX runs_by_task ON runs (task_id, user_id, started_at, id) WHERE task_id IS NOT NULL;

CREATE INDEX runs_by_schedule_action ON runs (schedule_action_id) WHERE schedule_action_id IS NOT NULL;
CREATE INDEX runs_waiting ON runs (user_id, queue_rank, queued_at, id) WHERE status = 'READY';
CREATE INDEX runs_in_use ON runs (user_id, memory_mbytes) WHERE status IN ('RUNNING', 'TIMING-OUT', 'ABORTING');
CREATE INDEX runs_children_to_abort ON runs (abort_children_at) WHERE abort_children_at IS NOT NULL;
CREATE INDEX runs_by_parent ON runs (parent_run_id, started_at, id) WHERE parent_run_id IS NOT NULL;

-- Keys of start calls: a call with a known one is answered with the run it has started.
CREATE TABLE start_keys (
  user_id TEXT NOT NULL,
  key TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  created_at BIGINT NOT NULL,
  PRIMARY KEY (user_id, key)
);
CREATE INDEX start_keys_by_run ON start_keys (run_id);
CREATE INDEX start_keys_by_age ON start_keys (created_at);

-- What the administrator has asked of the engines: 'drain' keeps them from starting processes.
CREATE TABLE maintenance (
  name TEXT PRIMARY KEY,
  since BIGINT NOT NULL
);
CREATE INDEX runs_standby ON runs (actor_id, user_id) WHERE origin = 'STANDBY' AND
  status IN ('READY', 'RUNNING', 'TIMING-OUT', 'ABORTING');

CREATE TABLE attempts (
  id TEXT PRIMARY KEY,
  run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  created_at BIGINT NOT NULL,
  handle_json TEXT,
  finished_at BIGINT,
  exit_json TEXT,
  removed SMALLINT NOT NULL DEFAULT 0,
  UNIQUE (run_id, number)
);
CREATE INDEX attempts_left ON attempts (run_id) WHERE removed = 0;

-- Charges made with an idempotency key; the same key charges nothing until then.
CREATE TABLE charge_keys (
  run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  idempotency_key TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  PRIMARY KEY (run_id, idempotency_key)
);

-- What runs used of the services by their tokens, and users in all, by the names of the API; added up every few
-- seconds and at the end of a run. ACTOR_COMPUTE_UNITS are in megabyte-milliseconds, of attempts and builds that are
-- over; transfers in bytes. day_at: the UTC day's first moment.
CREATE TABLE run_usage (
  run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  service TEXT NOT NULL,
  quantity BIGINT NOT NULL,
  PRIMARY KEY (run_id, service)
);

CREATE TABLE user_usage (
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  day_at BIGINT NOT NULL,
  service TEXT NOT NULL,
  quantity BIGINT NOT NULL,
  PRIMARY KEY (user_id, day_at, service)
);

CREATE TABLE datasets (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  name TEXT,
  name_key TEXT,
  title TEXT,
  actor_id TEXT,
  run_id TEXT,
  created_at BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  accessed_at BIGINT NOT NULL,
  general_access TEXT NOT NULL,
  maker_actor_id TEXT,
  starter_actor_id TEXT,
  url_signing_secret_key TEXT NOT NULL,
  schema_json TEXT,
  fields_json TEXT,
  charged_run_id TEXT,
  merged_index BIGINT NOT NULL DEFAULT 0,
  item_count BIGINT NOT NULL DEFAULT 0,
  clean_item_count BIGINT NOT NULL DEFAULT 0,
  read_count BIGINT NOT NULL DEFAULT 0,
  write_count BIGINT NOT NULL DEFAULT 0,
  storage_bytes BIGINT NOT NULL DEFAULT 0,
  UNIQUE (user_id, name_key)
);
CREATE INDEX datasets_by_user ON datasets (user_id, created_at, id);
CREATE INDEX datasets_by_run ON datasets (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX datasets_unnamed ON datasets (created_at) WHERE name_key IS NULL AND run_id IS NULL;

-- Items of one push, or of several merged later, as JSON texts, joined by newlines: in "items", or the part of the blob
-- "blob_key" from byte "blob_start". Before datasets.merged_index there is nothing left to merge. A rowid table: large
-- rows in a keyed one are slow; "items" is last, as what is behind a large value is slow to read.
-- What belongs to a storage has no foreign key: a deleted storage is emptied in steps (storage_garbage).
CREATE TABLE dataset_blocks (
  dataset_id TEXT NOT NULL,
  first_index BIGINT NOT NULL,
  item_count INTEGER NOT NULL,
  size_bytes BIGINT NOT NULL,
  blob_key TEXT,
  blob_start BIGINT NOT NULL,
  items BLOB
);
CREATE UNIQUE INDEX dataset_blocks_by_index ON dataset_blocks (dataset_id, first_index);

CREATE TABLE key_value_stores (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  name TEXT,
  name_key TEXT,
  title TEXT,
  actor_id TEXT,
  run_id TEXT,
  created_at BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  accessed_at BIGINT NOT NULL,
  general_access TEXT NOT NULL,
  maker_actor_id TEXT,
  starter_actor_id TEXT,
  url_signing_secret_key TEXT NOT NULL,
  schema_json TEXT,
  read_count BIGINT NOT NULL DEFAULT 0,
  write_count BIGINT NOT NULL DEFAULT 0,
  delete_count BIGINT NOT NULL DEFAULT 0,
  list_count BIGINT NOT NULL DEFAULT 0,
  storage_bytes BIGINT NOT NULL DEFAULT 0,
  UNIQUE (user_id, name_key)
);
CREATE INDEX key_value_stores_by_user ON key_value_stores (user_id, created_at, id);
CREATE INDEX key_value_stores_by_run ON key_value_stores (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX key_value_stores_unnamed ON key_value_stores (created_at) WHERE name_key IS NULL AND run_id IS NULL;

-- A small value is in "value"; a large one is the object "blob_key" of the blob store.
-- "version" is the store's write_count at the time, so no two values of a key have the same.
CREATE TABLE records (
  store_id TEXT NOT NULL,
  key_bytes BLOB NOT NULL,
  version BIGINT NOT NULL,
  content_type TEXT NOT NULL,
  content_encoding TEXT,
  size_bytes BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  value BLOB,
  blob_key TEXT
);
CREATE UNIQUE INDEX records_by_key ON records (store_id, key_bytes);

CREATE TABLE request_queues (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  name TEXT,
  name_key TEXT,
  title TEXT,
  actor_id TEXT,
  run_id TEXT,
  created_at BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  accessed_at BIGINT NOT NULL,
  general_access TEXT NOT NULL,
  maker_actor_id TEXT,
  starter_actor_id TEXT,
  total_count BIGINT NOT NULL DEFAULT 0,
  handled_count BIGINT NOT NULL DEFAULT 0,
  last_order_no BIGINT NOT NULL DEFAULT 0,
  last_lock_no BIGINT NOT NULL DEFAULT 0,
  first_client_key TEXT,
  had_multiple_clients SMALLINT NOT NULL DEFAULT 0,
  read_count BIGINT NOT NULL DEFAULT 0,
  write_count BIGINT NOT NULL DEFAULT 0,
  delete_count BIGINT NOT NULL DEFAULT 0,
  head_item_read_count BIGINT NOT NULL DEFAULT 0,
  storage_bytes BIGINT NOT NULL DEFAULT 0,
  UNIQUE (user_id, name_key)
);
CREATE INDEX request_queues_by_user ON request_queues (user_id, created_at, id);
CREATE INDEX request_queues_by_run ON request_queues (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX request_queues_unnamed ON request_queues (created_at) WHERE name_key IS NULL AND run_id IS NULL;

-- order_no is NULL once handled. request_json is the whole request as clients sent it, without state; head_json what
-- the head tells of it. Both are JSON texts, so that no character is a problem.
CREATE TABLE requests (
  queue_id TEXT NOT NULL,
  id TEXT NOT NULL,
  order_no BIGINT,
  handled_at BIGINT,
  lock_expires_at BIGINT,
  lock_client_key TEXT,
  lock_run_id TEXT,
  size_bytes INTEGER NOT NULL,
  head_json TEXT NOT NULL,
  request_json TEXT NOT NULL
);
CREATE UNIQUE INDEX requests_by_id ON requests (queue_id, id);
CREATE INDEX requests_by_order ON requests (queue_id, order_no) WHERE order_no IS NOT NULL;

-- Deleted storages whose contents are still there; emptied by housekeeping.
-- Logs of deleted runs and builds whose files may still be there.
CREATE TABLE log_garbage (
  job_id TEXT PRIMARY KEY
);

CREATE TABLE storage_garbage (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  deleted_at BIGINT NOT NULL
);

-- Blobs nothing points at: replaced, deleted, or still being uploaded. From "due_at" housekeeping may claim one
-- (claimed = 1) and delete it; an upload takes its row out again, unless it is claimed.
CREATE TABLE blob_garbage (
  blob_key TEXT PRIMARY KEY,
  due_at BIGINT NOT NULL,
  claimed SMALLINT NOT NULL DEFAULT 0
);
CREATE INDEX blob_garbage_due ON blob_garbage (due_at);

-- What waits for events of an Actor, task or run (condition, condition_id). removed_at: deleted, but dispatches are left.
-- due_at: when the next dispatch is to be called, NULL if none is. Whoever sends holds a lease; what holds it at a
-- server's end is taken over by the next server of the same name, or by any other once it is over.
CREATE TABLE webhooks (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  created_at BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  is_ad_hoc SMALLINT NOT NULL,
  condition TEXT NOT NULL,
  condition_id TEXT NOT NULL,
  event_types TEXT NOT NULL,
  idempotency_key TEXT,
  fields_json TEXT NOT NULL,
  removed_at BIGINT,
  total_dispatches BIGINT NOT NULL DEFAULT 0,
  last_dispatch_no BIGINT NOT NULL DEFAULT 0,
  last_dispatch_id TEXT,
  due_at BIGINT,
  lease_owner TEXT,
  lease_until BIGINT,
  UNIQUE (user_id, idempotency_key)
);
CREATE INDEX webhooks_by_user ON webhooks (user_id, created_at, id);
CREATE INDEX webhooks_by_condition ON webhooks (condition_id) WHERE removed_at IS NULL;
CREATE INDEX webhooks_due ON webhooks (due_at) WHERE due_at IS NOT NULL;

-- The outbox: written with the change of status that it tells of, together with a dispatch for each webhook.
-- resource_json is the run or build as it was then.
CREATE TABLE webhook_events (
  id TEXT PRIMARY KEY,
  event_type TEXT NOT NULL,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  created_at BIGINT NOT NULL,
  data_json TEXT,
  resource_kind TEXT NOT NULL,
  resource_json TEXT
);
CREATE INDEX webhook_events_by_time ON webhook_events (created_at);

-- number counts the dispatches of one webhook. due_at: the time of the next call, while status is ACTIVE.
CREATE TABLE webhook_dispatches (
  id TEXT PRIMARY KEY,
  webhook_id TEXT NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
  user_id TEXT NOT NULL,
  event_id TEXT NOT NULL REFERENCES webhook_events (id) ON DELETE CASCADE,
  number BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  status TEXT NOT NULL,
  finished_at BIGINT,
  target_json TEXT NOT NULL,
  call_count INTEGER NOT NULL DEFAULT 0,
  calls_json TEXT NOT NULL,
  due_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX webhook_dispatches_by_webhook ON webhook_dispatches (webhook_id, number);
CREATE INDEX webhook_dispatches_by_user ON webhook_dispatches (user_id, created_at, id);
CREATE INDEX webhook_dispatches_by_event ON webhook_dispatches (event_id);
CREATE INDEX webhook_dispatches_due ON webhook_dispatches (webhook_id, due_at, number) WHERE status = 'ACTIVE';
CREATE INDEX webhook_dispatches_finished ON webhook_dispatches (finished_at) WHERE finished_at IS NOT NULL;

-- next_run_at is NULL while a schedule is disabled; whoever moves it on writes down the tick.
CREATE TABLE schedules (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  name_key TEXT NOT NULL,
  title TEXT,
  description TEXT,
  cron_expression TEXT NOT NULL,
  timezone TEXT NOT NULL,
  is_enabled SMALLINT NOT NULL,
  is_exclusive SMALLINT NOT NULL,
  notify_email SMALLINT NOT NULL,
  actions_json TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  modified_at BIGINT NOT NULL,
  next_run_at BIGINT,
  last_run_at BIGINT,
  last_log_no BIGINT NOT NULL DEFAULT 0,
  UNIQUE (user_id, name_key)
);
CREATE INDEX schedules_by_user ON schedules (user_id, created_at, id);
CREATE INDEX schedules_due ON schedules (next_run_at) WHERE next_run_at IS NOT NULL;

-- Firings that are not done with. Nobody but lease_owner takes one up before lease_until.
CREATE TABLE schedule_ticks (
  id TEXT PRIMARY KEY,
  schedule_id TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
  scheduled_at BIGINT NOT NULL,
  is_manual SMALLINT NOT NULL,
  lease_owner TEXT,
  lease_until BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX schedule_ticks_by_schedule ON schedule_ticks (schedule_id);
CREATE INDEX schedule_ticks_free ON schedule_ticks (lease_until, scheduled_at, id);

CREATE TABLE schedule_log (
  schedule_id TEXT NOT NULL REFERENCES schedules (id) ON DELETE CASCADE,
  number BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  level TEXT NOT NULL,
  message TEXT NOT NULL,
  PRIMARY KEY (schedule_id, number)
);
