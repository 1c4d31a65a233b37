-- Landing tables are plain MergeTree: an engine that hides doubles would hide them from the audit.
-- Partitioned by the day of receipt, since an insert may span at most 100 partitions and events of
-- one batch may be of any age. Sorted by receipt within an entity: a question about the last hour
-- reads the last hour, merges copy runs instead of rows, and the origins of a granule stand close
-- together, so that a minmax index serves the lander's read-back.
-- docs/decisions/0003-landing-tables.md has the measurements.
CREATE TABLE IF NOT EXISTS exposures (
    event_id_bytes FixedString(16),
    event_id String ALIAS lower(hex(event_id_bytes)),
    origin_index UInt32 CODEC(T64, ZSTD(1)),
    origin_part UInt16,
    origin_log UInt8,
    origin_partition UInt32,
    origin_offset UInt64 CODEC(Delta, ZSTD(1)),
    project LowCardinality(String),
    environment LowCardinality(String),
    key_id LowCardinality(String),
    request_id String CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    sdk_type LowCardinality(String),
    sdk_version LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    tier LowCardinality(String),
    event_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    event_time_ms Int64 CODEC(Delta, ZSTD(1)),
    corrected_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    time_flag LowCardinality(String),
    lateness_ms Int64 CODEC(T64, ZSTD(1)),
    unit_type LowCardinality(String),
    unit_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    stable_id String CODEC(ZSTD(1)),
    custom_ids Map(String, String) CODEC(ZSTD(1)),
    canonical_id String CODEC(ZSTD(1)),
    country LowCardinality(String),
    app_version LowCardinality(String),
    is_bot Bool,
    weight Float64,
    metadata String CODEC(ZSTD(1)),
    user String CODEC(ZSTD(1)),
    parent_event_id_bytes FixedString(16),
    parent_event_id String ALIAS if(parent_event_id_bytes = toFixedString('', 16), '', lower(hex(parent_event_id_bytes))),
    value LowCardinality(String),
    kind LowCardinality(String),
    name LowCardinality(String),
    rule_id LowCardinality(String),
    group_name LowCardinality(String),
    parameter LowCardinality(String),
    allocated_experiment LowCardinality(String),
    wire_name LowCardinality(String),
    stamped_version LowCardinality(String),
    stamped_time Nullable(DateTime64(3, 'UTC')),
    config_version LowCardinality(String),
    config_time Nullable(DateTime64(3, 'UTC')),
    config_match LowCardinality(String),
    assignment LowCardinality(String),
    expected_group LowCardinality(String),
    reason LowCardinality(String),
    is_manual Bool,
    landed_at DateTime64(3, 'UTC') DEFAULT now64(3),
    INDEX by_origin (origin_log, origin_partition, origin_offset) TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toYYYYMMDD(received_at)
ORDER BY (project, environment, name, received_at, origin_log, origin_partition, origin_offset, origin_index, origin_part)
SETTINGS min_parts_to_merge_at_once = 20;

CREATE TABLE IF NOT EXISTS custom_events (
    event_id_bytes FixedString(16),
    event_id String ALIAS lower(hex(event_id_bytes)),
    origin_index UInt32 CODEC(T64, ZSTD(1)),
    origin_part UInt16,
    origin_log UInt8,
    origin_partition UInt32,
    origin_offset UInt64 CODEC(Delta, ZSTD(1)),
    project LowCardinality(String),
    environment LowCardinality(String),
    key_id LowCardinality(String),
    request_id String CODEC(ZSTD(1)),
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    sdk_type LowCardinality(String),
    sdk_version LowCardinality(String),
    session_id String CODEC(ZSTD(1)),
    tier LowCardinality(String),
    event_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    event_time_ms Int64 CODEC(Delta, ZSTD(1)),
    corrected_time DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    time_flag LowCardinality(String),
    lateness_ms Int64 CODEC(T64, ZSTD(1)),
    unit_type LowCardinality(String),
    unit_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    stable_id String CODEC(ZSTD(1)),
    custom_ids Map(String, String) CODEC(ZSTD(1)),
    canonical_id String CODEC(ZSTD(1)),
    country LowCardinality(String),
    app_version LowCardinality(String),
    is_bot Bool,
    weight Float64,
    metadata String CODEC(ZSTD(1)),
    user String CODEC(ZSTD(1)),
    event_name LowCardinality(String),
    value_number Nullable(Float64),
    value_string String CODEC(ZSTD(1)),
    landed_at DateTime64(3, 'UTC') DEFAULT now64(3),
    INDEX by_origin (origin_log, origin_partition, origin_offset) TYPE minmax GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toYYYYMMDD(received_at)
ORDER BY (project, environment, event_name, received_at, origin_log, origin_partition, origin_offset, origin_index, origin_part)
SETTINGS min_parts_to_merge_at_once = 20;

-- Copies of an event that came after the claims window are second rows; these views answer without them.
CREATE VIEW IF NOT EXISTS exposures_current AS
SELECT *, event_id, parent_event_id FROM exposures
ORDER BY received_at, origin_log, origin_partition, origin_offset, origin_index, origin_part
LIMIT 1 BY event_id_bytes;

CREATE VIEW IF NOT EXISTS custom_events_current AS
SELECT *, event_id FROM custom_events
ORDER BY received_at, origin_log, origin_partition, origin_offset, origin_index, origin_part
LIMIT 1 BY event_id_bytes;
