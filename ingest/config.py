"""What the gateway is told when it is composed."""

from dataclasses import dataclass

from schemas.exposure_rule import NO_EVALUATION, ExposureRule
from schemas.kafka import KafkaConnection
from schemas.limits import ANSWER_DEADLINE_S, SPILL_BYTES


@dataclass(frozen=True)
class GatewayConfig:
    """Settings of one gateway. The partition count is read from the topic, not told."""

    kafka: KafkaConnection
    linger_ms: float = 3.0
    answer_deadline_s: float = ANSWER_DEADLINE_S
    """When a request that the log has not acknowledged is answered 503."""
    alias_paths: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ("*",)
    exposure_rule: ExposureRule = NO_EVALUATION
    """Which evaluations that come over OTLP are exposures."""
    spill_max_bytes: int = SPILL_BYTES
    """What the spill holds at the most, if there is one."""
