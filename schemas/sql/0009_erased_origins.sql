-- Where events stood that were erased: coordinates of the log and nothing of the events. The ledger counts them as
-- landed, for that they were; a replay of the archive does not bring them back.
CREATE TABLE IF NOT EXISTS erased_origins (
    origin_log UInt8,
    origin_partition UInt32,
    origin_offset UInt64,
    origin_index UInt32,
    origin_part UInt16,
    received_at DateTime64(3, 'UTC'),
    erased_at DateTime64(3, 'UTC') DEFAULT now64(3),
    erasure String
) ENGINE = ReplacingMergeTree
ORDER BY (origin_log, origin_partition, origin_offset, origin_index, origin_part);
