"""How every process reaches Kafka."""

import ssl
from dataclasses import dataclass
from typing import Any, Final

from schemas.limits import ENVELOPE_BYTES

PRODUCER: Final[dict[str, Any]] = {
    "enable_idempotence": True,
    "acks": "all",
    "compression_type": "zstd",
    "max_request_size": ENVELOPE_BYTES,
}
"""Settings of every producer of ours: a retry inside the client never appends twice, and what is sent is
a sixth or less of what was received (docs/decisions/0014-compression.md)."""

METADATA_MAX_AGE_MS: Final = 10_000
"""How soon a group hears that its topics have more partitions; the clients' default is five minutes."""


@dataclass(frozen=True)
class KafkaConnection:
    """Where the brokers are and how to be let in."""

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = ""
    sasl_username: str = ""
    sasl_password: str = ""
    ssl_ca_file: str = ""

    def client_settings(self) -> dict[str, Any]:
        """Return the arguments that every aiokafka client takes."""
        settings: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
        }
        if self.sasl_mechanism:
            settings |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        if "SSL" in self.security_protocol:
            settings["ssl_context"] = ssl.create_default_context(cafile=self.ssl_ca_file or None)
        return settings
