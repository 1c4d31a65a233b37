"""What `show` asks of the table `dead_letters`. Pure: SQL as text."""

from ops.dlq.choose import quoted


def one(name: str) -> str:
    """Return the question for all envelopes of an event, by its id, its origin or the place of its dead letter."""
    place = name.removeprefix("dlq.").split("/")
    if len(place) == 3 and place[1].isdigit() and place[2].isdigit():
        condition = f"stage = {quoted(place[0])} AND dlq_partition = {place[1]} AND dlq_offset = {place[2]}"
    elif "/" in name:
        log, partition, offset, rest = (*name.split("/"), "", "", "")[:4]
        index, _, part = rest.partition(".")
        numbers = (log, partition, offset, index, part or "0")
        columns = ("origin_log", "origin_partition", "origin_offset", "origin_index", "origin_part")
        condition = " AND ".join(
            ["has_origin", *(f"{column} = {int(number)}" for column, number in zip(columns, numbers, strict=True))]
        )
    else:
        condition = f"event_id = {quoted(name.lower())}"
    return f"SELECT * FROM dead_letters FINAL WHERE {condition} ORDER BY attempt, last_failed_at LIMIT 100"  # noqa: S608
