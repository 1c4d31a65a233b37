-- Experiments: which exposures count, who was exposed first, and their numbers.
--
-- The population of an experiment, as docs/health.md says it. `excluded` is '' for what counts, else why not.
-- `arm` is the group. `exposed_at` is when it happened by our clock; what a broken clock says (flagged, or after its
-- receipt) is when it was received. A version of a config is told by its number and the time of its document.
CREATE VIEW IF NOT EXISTS experiment_rules AS
SELECT
    project, name, version, time, rule_id,
    if(has_groups, is_group, asks_bucket) AS is_arm,
    asks_gate
FROM (
    SELECT
        project, name, version, time,
        JSONExtractString(rule, 'id') AS rule_id,
        JSONExtractBool(rule, 'isExperimentGroup') AS is_group,
        arrayMap(condition -> lower(JSONExtractString(condition, 'type')), JSONExtractArrayRaw(rule, 'conditions')) AS asked,
        has(asked, 'user_bucket') AS asks_bucket,
        hasAny(asked, ['pass_gate', 'fail_gate']) AS asks_gate,
        max(is_group) OVER (PARTITION BY project, name, time) AS has_groups
    FROM config_versions FINAL
    ARRAY JOIN JSONExtractArrayRaw(spec, 'rules') AS rule
    WHERE section = 'config' AND kind = 'experiment' AND NOT is_gone
);

CREATE VIEW IF NOT EXISTS experiment_exposures AS
SELECT
    toDate(received_at) AS day, project, environment,
    if(kind = 'layer', allocated_experiment, name) AS experiment,
    config_version,
    ifNull(config_time, toDateTime64(0, 3, 'UTC')) AS version_time,
    if(group_name = '', rule_id, group_name) AS arm,
    multiIf(
        tier != 'production', 'non_production',
        origin_part != 0, 'secondary',
        is_manual, 'manual',
        endsWith(rule_id, ':override') OR endsWith(rule_id, ':id_override') OR startsWith(reason, 'LocalOverride'), 'override',
        rule_id IN ('', 'default'), 'rule_default',
        rule_id = 'prestart', 'rule_prestart',
        rule_id = 'disabled', 'rule_disabled',
        rule_id = 'layerAssignment', 'rule_layer_assignment',
        rule_id IN ('targetingGate', 'inlineTargetingRules'), 'rule_targeting',
        (project, experiment, version_time, rule_id) IN (SELECT project, name, time, rule_id FROM experiment_rules WHERE NOT is_arm AND asks_gate), 'holdout',
        (project, experiment, version_time, rule_id) IN (SELECT project, name, time, rule_id FROM experiment_rules WHERE NOT is_arm), 'not_by_chance',
        unit_id = '', 'no_unit',
        ''
    ) AS excluded,
    if(time_flag IN ('ok', 'absent'), least(corrected_time, received_at), received_at) AS exposed_at,
    unit_type, unit_id, rule_id, if(kind = 'layer', name, '') AS layer,
    sdk_type, sdk_version, country, app_version, is_bot, config_match, assignment, lateness_ms,
    received_at, landed_at, event_id_bytes, origin_log, origin_partition, origin_offset, origin_index, origin_part
FROM exposures
WHERE kind = 'experiment' OR (kind = 'layer' AND allocated_experiment != '');

-- Who was exposed: a row for each unit and config version on the day (of receipt, UTC) on which it was first heard of
-- ('first'), and one on the day on which it was first seen in another group ('crossed'). `is_newcomer`: no other
-- version had it before. `exposed_at` and what stands beside it are of the first exposure, which came `late_ms` after
-- it happened; `received_at` is when the unit was first heard of. This and the two tables below are made anew from `exposures` for a whole day whenever that
-- day changed, and put in place at once; nothing is ever added to them.
CREATE TABLE IF NOT EXISTS exposed_units (
    day Date,
    project LowCardinality(String),
    environment LowCardinality(String),
    experiment LowCardinality(String),
    config_version LowCardinality(String),
    version_time DateTime64(3, 'UTC'),
    what Enum8('first' = 1, 'crossed' = 2),
    is_newcomer Bool,
    unit_key FixedString(16),
    unit_type LowCardinality(String),
    unit_id String CODEC(ZSTD(1)),
    group_name LowCardinality(String),
    rule_id LowCardinality(String),
    layer LowCardinality(String),
    exposed_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    late_ms Int64 CODEC(T64, ZSTD(1)),
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    sdk_type LowCardinality(String),
    sdk_version LowCardinality(String),
    country LowCardinality(String),
    app_version LowCardinality(String),
    version_key UInt64
) ENGINE = MergeTree
PARTITION BY day
ORDER BY (project, environment, experiment, unit_key);

-- Their numbers. `axis` says of what `minute` is: 'received' (order in which the split is tested), 'exposed' (charts),
-- 'late' (those whose first exposure came late, by hour of receipt), or by hour of receipt too what kind of segment.
CREATE TABLE IF NOT EXISTS experiment_units (
    day Date,
    project LowCardinality(String),
    environment LowCardinality(String),
    experiment LowCardinality(String),
    config_version LowCardinality(String),
    version_time DateTime64(3, 'UTC'),
    axis LowCardinality(String),
    segment String,
    group_name LowCardinality(String),
    layer LowCardinality(String),
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    units UInt64 CODEC(T64, ZSTD(1)),
    newcomers UInt64 CODEC(T64, ZSTD(1)),
    crossed UInt64 CODEC(T64, ZSTD(1))
) ENGINE = MergeTree
PARTITION BY day
ORDER BY (project, environment, experiment, axis, version_time, config_version, segment, minute, group_name);

-- Exposures by the minute in which they happened. `lateness` is ceil(4·log2(s)) of how many seconds later they were
-- received, 0 up to one second. `copies` are rows whose event had landed on an earlier day.
CREATE TABLE IF NOT EXISTS experiment_checks (
    day Date,
    project LowCardinality(String),
    environment LowCardinality(String),
    experiment LowCardinality(String),
    config_version LowCardinality(String),
    version_time DateTime64(3, 'UTC'),
    excluded LowCardinality(String),
    group_name LowCardinality(String),
    minute DateTime('UTC') CODEC(Delta, ZSTD(1)),
    lateness UInt8,
    checks UInt64 CODEC(T64, ZSTD(1)),
    stale UInt64 CODEC(T64, ZSTD(1)),
    audited UInt64 CODEC(T64, ZSTD(1)),
    mismatched UInt64 CODEC(T64, ZSTD(1)),
    bots UInt64 CODEC(T64, ZSTD(1)),
    copies UInt64 CODEC(T64, ZSTD(1))
) ENGINE = MergeTree
PARTITION BY day
ORDER BY (project, environment, experiment, version_time, config_version, excluded, minute, group_name, lateness);

-- Of what a day was made: when any of it changes, the day is made anew.
CREATE TABLE IF NOT EXISTS rollup_days (
    day Date,
    made_of String,
    as_of DateTime64(3, 'UTC'),
    made_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(made_at)
ORDER BY day;

-- Each unit of each experiment once, with its first exposure.
CREATE VIEW IF NOT EXISTS first_exposures AS
SELECT
    project, environment, experiment, unit_type, unit_id, group_name, exposed_at AS first_exposed_at,
    received_at AS first_heard_of_at, config_version, rule_id, layer, sdk_type, sdk_version, country, app_version, day
FROM exposed_units WHERE what = 'first' AND is_newcomer;
