"""What the cluster says about topics, ids included.

aiokafka knows Metadata up to version 5, which has no topic ids; these are version 12's structures
in aiokafka's own terms.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

_UNKNOWN_TOPIC = 3
_LEADER_NOT_AVAILABLE = 5


class _Uuid(AbstractType):  # type: ignore[misc]  # aiokafka's types are not followed
    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        return uuid.UUID(bytes=data.read(16))


class _Response(Response):  # type: ignore[misc]  # as above
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", CompactString()), ("port", Int32), ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)), ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)), ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )  # fmt: skip


class _RequestStruct(RequestStruct):  # type: ignore[misc]  # as above
    API_KEY = 3
    API_VERSION = 12
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Request(Request[_RequestStruct]):  # type: ignore[misc]  # as above
    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_RequestStruct]) -> _RequestStruct:
        nil = uuid.UUID(int=0)
        return request_struct_class([(nil, name, {}) for name in self._names], False, False, {})


@dataclass(frozen=True)
class TopicState:
    """A topic as the cluster has it. `has_leaders`: every partition can be written to and read."""

    name: str
    topic_id: uuid.UUID
    partitions: int
    has_leaders: bool


@dataclass(frozen=True)
class ClusterState:
    """The brokers that are up, and those of the topics asked for that exist."""

    brokers: int
    topics: dict[str, TopicState]


async def describe(admin: AIOKafkaAdminClient, names: Sequence[str]) -> ClusterState:
    """Ask for the topics called `names`. Raises KafkaError."""
    response: Any = await admin._send_request(_Request(names))
    topics = {}
    for code, name, topic_id, _internal, partitions, _operations, _tags in response.topics:
        if code == _UNKNOWN_TOPIC:
            continue
        if code not in (0, _LEADER_NOT_AVAILABLE):
            raise for_code(code)(name)
        has_leaders = bool(partitions) and all(leader >= 0 for _, _, leader, *_ in partitions)
        topics[name] = TopicState(name, topic_id, len(partitions), has_leaders)
    return ClusterState(len(response.brokers), topics)
