-- Whose an id is: first touch by the time of events, however links arrive. docs/identity.md has the rules, which are
-- the worker's; their numbers are those of schemas/limits.py.
CREATE VIEW IF NOT EXISTS identity_crowds AS
SELECT project, environment, user_id, count() AS ids
FROM identity_links FINAL
GROUP BY project, environment, user_id
HAVING ids > 1000;

CREATE VIEW IF NOT EXISTS identity_owners AS
SELECT
    project, environment, id_type, id,
    argMinIf(linked_to, (seen_at, linked_to), is_person) AS user_id,
    minIf(seen_at, is_person) AS first_seen,
    countIf(is_person) AS persons
FROM (
    SELECT
        project, environment, id_type, id, user_id AS linked_to, first_seen AS seen_at,
        (project, environment, user_id) NOT IN (SELECT project, environment, user_id FROM identity_crowds) AS is_person
    FROM identity_links FINAL
)
GROUP BY project, environment, id_type, id
HAVING count() <= 16 AND persons > 0 AND (id_type = 'stableID' OR persons = 1);

-- Exposures with what is known now of the decision, as of the time of the event; `exposures` has what was
-- known when it landed. The columns are the same, so that a question needs another table only.
-- docs/config.md has the rules, which are the worker's; an SDK is stale a minute after a newer version.
-- An exposure that was decided under another config (`overrideConfigName`) is that config's.
-- Columns of the tables that are joined have names of their own: equal ones would be renamed.
CREATE OR REPLACE VIEW exposures_resolved AS
WITH
    asked AS (
        SELECT
            *,
            multiIf(kind = 'gate', 'gate', kind = 'layer', 'layer', 'config') AS own_section,
            ifNull(stamped_time, corrected_time) AS around,
            if(position(metadata, 'overrideConfigName') > 0, JSONExtractString(metadata, 'overrideConfigName'), '') AS decided_under,
            if(decided_under = '', wire_name, decided_under) AS called,
            replaceRegexpOne(rule_id, ':(id_)?override$', '') AS plain_rule
        FROM exposures_current
    ),
    named AS (
        SELECT asked.*,
               if(n_name = '', called, n_name) AS own_name,
               if(a_name = '', allocated_experiment, a_name) AS allocated
        FROM asked
        LEFT ANY JOIN (
            SELECT project AS n_project, section AS n_section, called AS n_called, name AS n_name FROM config_names
        ) AS n ON n_project = project AND n_section = own_section AND n_called = called
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
        SELECT decided.*, t_name, t_version, t_time, t_gone, t_groups, t_replaced, t_before
        FROM decided
        ASOF LEFT JOIN (
            SELECT project AS t_project, section AS t_section, name AS t_name, version AS t_version, time AS t_time,
                   from_time AS t_from, is_gone AS t_gone, groups AS t_groups, replaced_at AS t_replaced,
                   argMaxIf((version, time, groups, replaced_at), time, NOT is_gone) OVER (
                       PARTITION BY project, section, name ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
                   ) AS t_before
            FROM config_versions_in_force
        ) AS t ON t_project = project AND t_section = by_section AND t_name = by_name AND t_from <= around
    ),
    of_own AS (
        SELECT at_time.*, o_version, o_kind, o_replaced
        FROM at_time
        ASOF LEFT JOIN (
            SELECT project AS o_project, section AS o_section, name AS o_name, version AS o_version,
                   argMaxIf(kind, time, NOT is_gone) OVER (PARTITION BY project, section, name) AS o_kind, from_time AS o_from, replaced_at AS o_replaced
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
               NOT by_document AND NOT by_version AND t_gone AND is_special AND toUnixTimestamp64Milli(t_before.2) > 0 AS by_before,
               NOT by_document AND NOT by_version AND NOT by_before AND r_name != ''
                   AND (t_gone OR NOT (mapContains(t_groups, plain_rule) OR is_special)) AS by_rule,
               multiIf(by_version, v_groups, by_before, t_before.3, by_rule, r_groups, t_groups) AS used_groups,
               multiIf(by_version, stamped_version, by_before, t_before.1, by_rule, r_version, t_version) AS used_version,
               multiIf(by_version, v_time, by_before, t_before.2, by_rule, r_time, t_time) AS used_time,
               multiIf(by_version, v_replaced, by_before, t_before.4, by_rule, r_replaced, t_replaced) AS used_replaced,
               multiIf(
                   o_kind = '' OR t_name = '' OR rule_id = '' OR (t_gone AND NOT by_version AND NOT by_before AND NOT by_rule), 'unknown_config',
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
    ),
    identified AS (
        SELECT weighed.*,
               lengthUTF8(user_id) BETWEEN 1 AND 256
                   AND (project, environment, user_id) NOT IN (SELECT project, environment, user_id FROM identity_crowds) AS is_person,
               c_owner, s_owner
        FROM weighed
        LEFT ANY JOIN (
            SELECT event_id_bytes AS c_event, argMin(owner, place) AS c_owner
            FROM (
                WITH arraySlice(arrayFilter(t -> t != 'stableID', mapKeys(custom_ids)), 1, 7) AS types
                SELECT event_id_bytes, project, environment, id_type, custom_ids[id_type] AS id, place
                FROM exposures
                ARRAY JOIN types AS id_type, arrayEnumerate(types) AS place
                WHERE NOT empty(custom_ids)
            ) AS told
            INNER JOIN (
                SELECT project AS i_project, environment AS i_environment, id_type AS i_type, id AS i_id, user_id AS owner
                FROM identity_owners WHERE id_type != 'stableID'
            ) AS i ON i_project = project AND i_environment = environment AND i_type = id_type AND i_id = id
            GROUP BY event_id_bytes
        ) AS c ON c_event = event_id_bytes
        LEFT ANY JOIN (
            SELECT project AS s_project, environment AS s_environment, id AS s_id, user_id AS s_owner
            FROM identity_owners WHERE id_type = 'stableID'
        ) AS s ON s_project = project AND s_environment = environment AND s_id = stable_id
    )
SELECT
    * EXCEPT (
        is_person, c_owner, s_owner, decided_under, called, own_section, around, plain_rule, own_name, allocated, by_section, by_name, t_name, t_version, t_time, t_gone,
        t_groups, t_replaced, t_before, by_before, o_version, o_kind, o_replaced, v_name, v_time, v_groups, v_replaced, r_name, r_version,
        r_time, r_groups, r_replaced, by_document, by_version, is_special, by_rule, used_groups, used_version, used_time,
        used_replaced, found, kind, name, group_name, allocated_experiment, config_version, config_time, config_match,
        canonical_id
    ),
    if(o_kind = '', kind, o_kind) AS kind,
    own_name AS name,
    allocated AS allocated_experiment,
    multiIf(found = 'unknown_config', '', mapContains(used_groups, rule_id), used_groups[rule_id], used_groups[plain_rule]) AS group_name,
    if(found = 'unknown_config', '', used_version) AS config_version,
    if(found = 'unknown_config', NULL, used_time) AS config_time,
    found AS config_match,
    multiIf(is_person, user_id, s_owner != '', s_owner, c_owner) AS canonical_id
FROM identified;

-- Which unit was in which arm: by the unit that was decided on, and the person behind it. Rules that put nobody into
-- an arm, holdouts among them, and units that were put there by hand, are left out.
CREATE VIEW IF NOT EXISTS exposure_arms AS
SELECT
    project, environment, tier, kind, name, allocated_experiment, unit_type, unit_id,
    if(lower(unit_type) IN ('userid', 'stableid'), canonical_id, '') AS person,
    multiIf(kind = 'gate', value, group_name != '', group_name, rule_id) AS arm,
    min(corrected_time) AS first_seen, count() AS exposures
FROM exposures_resolved
WHERE origin_part = 0 AND unit_id != '' AND arm != '' AND kind != 'dynamic_config'
    AND NOT endsWith(rule_id, 'override') AND rule_id NOT IN (
        '', 'default', 'disabled', 'prestart', 'layerAssignment', 'targetingGate', 'inlineTargetingRules'
    )
    AND (
        kind = 'gate'
        OR (project, if(kind = 'layer', allocated_experiment, name), ifNull(config_time, toDateTime64(0, 3, 'UTC')), rule_id)
        NOT IN (SELECT project, name, time, rule_id FROM experiment_rules WHERE NOT is_arm AND asks_gate)
    )
GROUP BY project, environment, tier, kind, name, allocated_experiment, unit_type, unit_id, person, arm;

-- Units that were seen in several arms: as they were decided on, and with the devices of a person put together.
CREATE VIEW IF NOT EXISTS crossovers AS
SELECT
    project, environment, tier, kind, name, allocated_experiment, unit_type, unit_id,
    arraySort(groupUniqArray(arm)) AS arms, min(first_seen) AS since, sum(exposures) AS seen
FROM exposure_arms
GROUP BY project, environment, tier, kind, name, allocated_experiment, unit_type, unit_id
HAVING length(arms) > 1;

CREATE VIEW IF NOT EXISTS crossovers_merged AS
SELECT
    project, environment, tier, kind, name, allocated_experiment,
    if(person = '', unit_type, 'person') AS merged_type, if(person = '', unit_id, person) AS merged_id,
    arraySort(groupUniqArray(arm)) AS arms, arraySort(groupUniqArray(100)(unit_id)) AS unit_ids,
    min(first_seen) AS since, sum(exposures) AS seen
FROM exposure_arms
GROUP BY project, environment, tier, kind, name, allocated_experiment, merged_type, merged_id
HAVING length(arms) > 1;
