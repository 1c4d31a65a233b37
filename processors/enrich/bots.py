"""Whether a user agent is a robot's, by the list of crawler-user-agents: tagged, never dropped.

The list is the package's, as old as its release; `LIST_DATE` is the day of its newest entry.
"""

from typing import Final

import crawleruseragents

LIST_DATE: Final = max(
    str(entry.get("addition_date", "")).replace("/", "-") for entry in crawleruseragents.CRAWLER_USER_AGENTS_DATA
)
"""The day on which the newest robot was added, such as 2026-10-22."""

_LONGEST: Final = 512
"""Characters of a user agent that are looked at; senders decide how long theirs are."""


class Bots:
    """Judges user agents and remembers them: to look one up in the list takes 0.2 ms."""

    def __init__(self, kept: int = 20_000) -> None:
        self._kept = kept
        self._judged: dict[str, bool] = {}

    def has(self, user_agent: str) -> bool:
        """Whether it is a robot's; "" is nobody's."""
        known = self._judged.get(user_agent)
        if known is None:
            known = bool(user_agent) and crawleruseragents.is_crawler(user_agent[:_LONGEST])
            if len(user_agent) <= _LONGEST:
                if len(self._judged) >= self._kept:
                    self._judged.clear()
                self._judged[user_agent] = known
        return known
