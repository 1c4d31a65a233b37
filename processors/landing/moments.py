"""Times as the store reads them."""

from datetime import UTC, datetime

from schemas.limits import STORE_MAX_MS


def moment(ms: int) -> str:
    """Return ms since the epoch as text for a DateTime64; what no clock can have said is an end of what it holds."""
    seconds, rest_ms = divmod(min(max(ms, 0), STORE_MAX_MS), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest_ms:03d}"
