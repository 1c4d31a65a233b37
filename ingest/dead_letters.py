"""What becomes of an event that is refused: it waits whole in `dlq.ingest`, with why."""

from ingest.chunks import RequestHead, event_ids_of, has_time
from ingest.split import Split
from schemas.dead_letter import DeadLetter
from schemas.ids import occurrences
from schemas.keys import KeyRecord
from schemas.readable import readable_of
from schemas.reasons import Stage
from schemas.wire import text_of


def dead_letters_of(head: RequestHead, split: Split, key: KeyRecord) -> list[DeadLetter]:
    """Return a dead letter for each refused event of a request, in the order of `split.refused`."""
    ids = event_ids_of(head, split)
    repeats = occurrences([refused.event for refused in split.refused])
    request = head.json(split.metadata) + b"}"
    stable_id = text_of(split.sender.stableID)
    letters = []
    for position, refused in enumerate(split.refused):
        occurrence = repeats.get(position, 0)
        readable = readable_of(refused.event, stable_id)
        letters.append(
            DeadLetter(
                stage=Stage.INGEST,
                reason=refused.verdict.reason,
                message=refused.verdict.message,
                original=refused.event,
                failed_at=head.received_at,
                event_id=ids.of(refused.event, occurrence, has_time(refused.event)),
                occurrence=occurrence,
                request=request,
                partition_key=refused.key,
                project=key.project,
                environment=key.environment,
                key_id=key.key_id,
                request_id=head.request_id,
                sdk_type=text_of(split.sender.sdkType),
                sdk_version=text_of(split.sender.sdkVersion),
                event_name=readable.event_name,
                experiment=readable.experiment,
                rule_id=readable.rule_id,
                unit_id=readable.unit_id,
                received_at=head.received_at,
            )
        )
    return letters
