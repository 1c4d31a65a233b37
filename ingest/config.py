"""What the gateway is told when it is composed."""

from dataclasses import dataclass

from schemas.kafka import KafkaConnection


@dataclass(frozen=True)
class GatewayConfig:
    """Settings of one gateway. The partition count is read from the topic, not told."""

    kafka: KafkaConnection
    linger_ms: float = 3.0
    alias_paths: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ("*",)
