"""What a run of the load generator did."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Summary:
    """Counts are of events unless they say requests; times of answers are ms.

    `refused` are events whose request got no 2xx before the run ended. `copies` are events that were
    sent once more on purpose after their acknowledgement. The time of an answer counts from when the
    request was due at a rate, and from when it was first written at full speed; retries are in it.
    """

    run: str = ""
    batch: int = 0
    sent: int = 0
    acked: int = 0
    refused: int = 0
    copies: int = 0
    retried_requests: int = 0
    lost_connections: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    began_at_ms: int = 0
    """When the first request was sent, ms since the epoch."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    answers_ms: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the summary for machines."""
        answers = sorted(self.answers_ms)
        return {
            "run": self.run,
            "batch": self.batch,
            "sent": self.sent,
            "acked": self.acked,
            "refused": self.refused,
            "copies": self.copies,
            "retried_requests": self.retried_requests,
            "lost_connections": self.lost_connections,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "began_at_ms": self.began_at_ms,
            "seconds": round(self.seconds, 3),
            "events_per_s": round(self.acked / self.seconds) if self.seconds else 0,
            "answer_p50_ms": round(quantile(answers, 0.5), 1),
            "answer_p99_ms": round(quantile(answers, 0.99), 1),
            "cpu_us_per_event": round(self.cpu_seconds * 1e6 / self.sent, 2) if self.sent else 0.0,
        }


def quantile(ordered: list[float], share: float) -> float:
    """Return the value that `share` of the ordered values do not exceed; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
