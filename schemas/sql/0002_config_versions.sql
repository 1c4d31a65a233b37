-- Every version of every config, and every document, as the topic config.versions has them: last record per
-- key. An entity has a row for each document in which it is another than in the one before; `is_gone` where
-- the document has it no more. Read it with FINAL.
CREATE TABLE IF NOT EXISTS config_versions (
    project LowCardinality(String),
    section LowCardinality(String),
    kind LowCardinality(String),
    name String,
    version String,
    time DateTime64(3, 'UTC'),
    pushed_at DateTime64(3, 'UTC'),
    is_gone Bool,
    id_type LowCardinality(String),
    groups Map(String, String) CODEC(ZSTD(1)),
    delegates Array(String),
    spec String CODEC(ZSTD(3)),
    sha256 String,
    name_hash String,
    is_deleted UInt8,
    landed_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(landed_at, is_deleted)
ORDER BY (project, section, name, time, kind, version);

-- The versions with the time in which they were in force. The first is taken for what was before it.
-- Half a document, whose push was cut off before its own row, was never in force.
CREATE VIEW IF NOT EXISTS config_versions_in_force AS
SELECT
    project, section, kind, name, version, time, is_gone, id_type, groups, delegates,
    if(row_number() OVER whole = 1, toDateTime64(0, 3, 'UTC'), time) AS from_time,
    leadInFrame(greatest(time, pushed_at), 1, toDateTime64('2299-12-31 00:00:00', 3, 'UTC')) OVER whole AS replaced_at
FROM config_versions FINAL
WHERE kind != 'document' AND (project, time) IN (SELECT project, time FROM config_versions FINAL WHERE kind = 'document')
WINDOW whole AS (PARTITION BY project, section, name ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING);

-- Names as exposures call them: plain, and by their hash.
CREATE VIEW IF NOT EXISTS config_names AS
SELECT DISTINCT project, section, name, called
FROM config_versions FINAL
ARRAY JOIN [name, name_hash] AS called
WHERE kind != 'document' AND (project, time) IN (SELECT project, time FROM config_versions FINAL WHERE kind = 'document');

-- Exposures with what is known now of the decision, as of the time of the event; `exposures` has what was
-- known when it landed. The columns are the same, so that a question needs another table only.
-- docs/config.md has the rules, which are the worker's; an SDK is stale a minute after a newer version.
-- Columns of the tables that are joined have names of their own: equal ones would be renamed.
CREATE VIEW IF NOT EXISTS exposures_resolved AS
WITH
    asked AS (
        SELECT
            *,
            multiIf(kind = 'gate', 'gate', kind = 'layer', 'layer', 'config') AS own_section,
            ifNull(stamped_time, corrected_time) AS around,
            replaceRegexpOne(rule_id, ':(id_)?override$', '') AS plain_rule
        FROM exposures_current
    ),
    named AS (
        SELECT asked.*,
               if(n_name = '', wire_name, n_name) AS own_name,
               if(a_name = '', allocated_experiment, a_name) AS allocated
        FROM asked
        LEFT ANY JOIN (
            SELECT project AS n_project, section AS n_section, called AS n_called, name AS n_name FROM config_names
        ) AS n ON n_project = project AND n_section = own_section AND n_called = wire_name
        LEFT ANY JOIN (
            SELECT project AS a_project, called AS a_called, name AS a_name FROM config_names WHERE section = 'config'
        ) AS a ON a_project = project AND a_called = allocated_experiment
    ),
    decided AS (
        SELECT named.*,
               if(own_section != 'layer' OR (allocated = '' AND d_experiment = ''), own_section, 'config') AS by_section,
               multiIf(own_section != 'layer', own_name, allocated != '', allocated, d_experiment != '', d_experiment, own_name) AS by_name
        FROM named
        LEFT ANY JOIN (
            SELECT DISTINCT l_project AS d_project, l_name AS d_layer, x_name AS d_experiment, x_rule AS d_rule
            FROM (
                SELECT project AS l_project, name AS l_name, arrayJoin(delegates) AS l_delegate
                FROM config_versions_in_force WHERE section = 'layer'
            ) AS l
            INNER JOIN (
                SELECT project AS x_project, name AS x_name, arrayJoin(mapKeys(groups)) AS x_rule
                FROM config_versions_in_force WHERE section = 'config'
            ) AS x ON x_project = l_project AND x_name = l_delegate
        ) AS d ON d_project = project AND d_layer = own_name AND d_rule = plain_rule
    ),
    at_time AS (
        SELECT decided.*, t_name, t_version, t_time, t_gone, t_groups, t_replaced
        FROM decided
        ASOF LEFT JOIN (
            SELECT project AS t_project, section AS t_section, name AS t_name, version AS t_version, time AS t_time,
                   from_time AS t_from, is_gone AS t_gone, groups AS t_groups, replaced_at AS t_replaced
            FROM config_versions_in_force
        ) AS t ON t_project = project AND t_section = by_section AND t_name = by_name AND t_from <= around
    ),
    of_own AS (
        SELECT at_time.*, o_version, o_kind, o_replaced
        FROM at_time
        ASOF LEFT JOIN (
            SELECT project AS o_project, section AS o_section, name AS o_name, version AS o_version, kind AS o_kind,
                   from_time AS o_from, replaced_at AS o_replaced
            FROM config_versions_in_force
        ) AS o ON o_project = project AND o_section = own_section AND o_name = own_name AND o_from <= around
    ),
    of_version AS (
        SELECT of_own.*, v_name, v_time, v_groups, v_replaced
        FROM of_own
        ASOF LEFT JOIN (
            SELECT project AS v_project, section AS v_section, name AS v_name, version AS v_version, time AS v_time,
                   if(row_number() OVER (PARTITION BY project, section, name, version ORDER BY time) = 1, toDateTime64(0, 3, 'UTC'), time) AS v_from,
                   groups AS v_groups, replaced_at AS v_replaced
            FROM config_versions_in_force WHERE NOT is_gone AND version != ''
        ) AS v ON v_project = project AND v_section = by_section AND v_name = by_name AND v_version = stamped_version
            AND v_from <= around
    ),
    of_rule AS (
        SELECT of_version.*, r_name, r_version, r_time, r_groups, r_replaced
        FROM of_version
        ASOF LEFT JOIN (
            SELECT project AS r_project, section AS r_section, name AS r_name, version AS r_version, time AS r_time,
                   if(row_number() OVER (PARTITION BY project, section, name, r_rule ORDER BY time) = 1, toDateTime64(0, 3, 'UTC'), time) AS r_from,
                   groups AS r_groups, replaced_at AS r_replaced, r_rule
            FROM config_versions_in_force ARRAY JOIN mapKeys(groups) AS r_rule
        ) AS r ON r_project = project AND r_section = by_section AND r_name = by_name AND r_rule = plain_rule AND r_from <= around
    ),
    weighed AS (
        SELECT of_rule.*,
               stamped_time IS NOT NULL AND (stamped_version != '' OR d_kind != '') AND t_name != '' AND NOT t_gone
                   AND stamped_version IN ('', t_version, o_version) AS by_document,
               NOT by_document AND v_name != '' AS by_version,
               plain_rule IN ('default', 'disabled', 'prestart', 'layerAssignment', 'targetingGate', 'inlineTargetingRules')
                   OR plain_rule != rule_id AS is_special,
               NOT by_document AND NOT by_version AND r_name != ''
                   AND (t_gone OR NOT (mapContains(t_groups, plain_rule) OR is_special)) AS by_rule,
               multiIf(by_version, v_groups, by_rule, r_groups, t_groups) AS used_groups,
               multiIf(by_version, stamped_version, by_rule, r_version, t_version) AS used_version,
               multiIf(by_version, v_time, by_rule, r_time, t_time) AS used_time,
               multiIf(by_version, v_replaced, by_rule, r_replaced, t_replaced) AS used_replaced,
               multiIf(
                   o_kind = '' OR t_name = '' OR rule_id = '' OR (t_gone AND NOT by_version AND NOT by_rule), 'unknown_config',
                   NOT (mapContains(used_groups, plain_rule) OR is_special), 'unknown_rule',
                   if(own_section = 'layer' AND by_document, least(used_replaced, o_replaced), used_replaced)
                       + INTERVAL 60 SECOND <= corrected_time, 'stale',
                   by_document OR by_version, 'exact',
                   'by_time'
               ) AS found
        FROM of_rule
        LEFT ANY JOIN (
            SELECT project AS d_project, time AS d_time, kind AS d_kind FROM config_versions FINAL WHERE kind = 'document'
        ) AS d ON d_project = project AND d_time = assumeNotNull(stamped_time)
    )
SELECT
    * EXCEPT (
        own_section, around, plain_rule, own_name, allocated, by_section, by_name, t_name, t_version, t_time, t_gone,
        t_groups, t_replaced, o_version, o_kind, o_replaced, v_name, v_time, v_groups, v_replaced, r_name, r_version,
        r_time, r_groups, r_replaced, by_document, by_version, is_special, by_rule, used_groups, used_version, used_time,
        used_replaced, found, kind, name, group_name, allocated_experiment, config_version, config_time, config_match
    ),
    if(o_kind = '', kind, o_kind) AS kind,
    own_name AS name,
    allocated AS allocated_experiment,
    multiIf(found = 'unknown_config', '', mapContains(used_groups, rule_id), used_groups[rule_id], used_groups[plain_rule]) AS group_name,
    if(found = 'unknown_config', '', used_version) AS config_version,
    if(found = 'unknown_config', NULL, used_time) AS config_time,
    found AS config_match
FROM weighed;
