"""Identity links of a unit, taken back by tombstones: `identity.links` is compacted."""

from ops.kafka import publish, read_compacted
from processors.unit import USER_ID
from schemas.erasures import Unit
from schemas.identity_links import LinkError, decode_key
from schemas.kafka import KafkaConnection
from schemas.topics import IDENTITY_LINKS


async def forget(kafka: KafkaConnection, project: str, unit: Unit, *, dry_run: bool) -> int:
    """Take back every link of a unit; only count them if `dry_run`. Raises KafkaError and TimeoutError."""
    keys = [key for key in await read_compacted(kafka, IDENTITY_LINKS) if _is_of(key, project, unit)]
    if keys and not dry_run:
        await publish(kafka, IDENTITY_LINKS, [(key, None) for key in keys])
    return len(keys)


def _is_of(key: bytes, project: str, unit: Unit) -> bool:
    try:
        owner, _, id_type, id_, user_id = decode_key(key)
    except LinkError:
        return False
    return owner == project and (unit == (id_type, id_) or unit == (USER_ID, user_id))
