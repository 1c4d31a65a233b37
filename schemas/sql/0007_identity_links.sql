-- Who was seen with which device or other id, and since when. A link that was told again has the earliest of its
-- times. Read it with FINAL. `log` and `link_offset` are where its record stands in identity.links.
CREATE TABLE IF NOT EXISTS identity_links (
    project LowCardinality(String),
    environment LowCardinality(String),
    id_type LowCardinality(String),
    id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    first_seen DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    earliness UInt64 MATERIALIZED toUInt64(10413791999999 - toUnixTimestamp64Milli(first_seen)) CODEC(Delta, ZSTD(1)),
    log UInt8,
    link_offset UInt64 CODEC(Delta, ZSTD(1)),
    landed_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1))
) ENGINE = ReplacingMergeTree(earliness)
ORDER BY (project, environment, id_type, id, user_id);
