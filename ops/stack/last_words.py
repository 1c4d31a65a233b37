"""What a child wrote last, in words: our processes log JSON, the broker and the JVM plain lines."""

import os
from pathlib import Path
from typing import Final

import orjson

_READ_BYTES: Final = 16 * 1024
_GRAVE: Final = {"error", "critical"}


def last_words(log: Path, since_bytes: int = 0, lines: int = 8) -> list[str]:
    """Return the last lines that stand in `log` after `since_bytes`, at most `lines` of them.

    Of JSON lines only the grave ones are told, where there are any.
    """
    try:
        with log.open("rb") as handle:
            end = handle.seek(0, os.SEEK_END)
            handle.seek(max(since_bytes, end - _READ_BYTES))
            written = handle.read().decode(errors="replace").splitlines()
    except OSError:
        return []
    told = [said for said in map(_in_words, written) if said[1]]
    grave = [text for is_grave, text in told if is_grave]
    return (grave or [text for _, text in told])[-lines:]


def _in_words(line: str) -> tuple[bool, str]:
    """Return whether a line is grave, and its text."""
    try:
        fields = orjson.loads(line)
        event = str(fields["event"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return " ERROR " in line or " FATAL " in line or line.startswith("Error"), line.strip()
    parts = [event.replace("_", " ")]
    parts += [str(fields[name]) for name in ("error", "remedy", "reason") if fields.get(name)]
    if exception := str(fields.get("exception") or "").strip():
        parts.append(exception.splitlines()[-1])
    return fields.get("level") in _GRAVE, ": ".join(parts)
