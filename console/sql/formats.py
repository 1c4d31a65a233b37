"""The formats an answer may come in."""

from dataclasses import dataclass
from typing import Final

import orjson

from console.answers import RefusedError


@dataclass(frozen=True)
class Format:
    """A format by its name here, the engine's name for it, and its media type."""

    name: str
    engine: str
    media_type: str
    for_people: bool = False
    """Whether a long answer is cut off and says so; else it is refused, since a file must be whole."""


_ALL: Final = (
    Format("json", "JSONCompactEachRowWithNamesAndTypes", "application/json", for_people=True),
    Format("pretty", "PrettyCompactMonoBlock", "text/plain; charset=utf-8", for_people=True),
    Format("jsonl", "JSONEachRow", "application/x-ndjson"),
    Format("csv", "CSVWithNames", "text/csv; charset=utf-8"),
    Format("tsv", "TSVWithNames", "text/tab-separated-values; charset=utf-8"),
    Format("arrow", "ArrowStream", "application/vnd.apache.arrow.stream"),
)
FORMATS: Final = {each.name: each for each in _ALL}


def format_named(name: str) -> Format:
    """Return a format by its name. Raises RefusedError (400) for a name that is none."""
    try:
        return FORMATS[name.lower()]
    except KeyError:
        raise RefusedError(
            400, "unknown_format", f"There is no format {name[:40]!r}.", f"Use one of {', '.join(FORMATS)}."
        ) from None


def json_body(lines: bytes, rows_max: int, elapsed_ms: float) -> tuple[bytes, int, bool]:
    """Turn names, types and rows, one JSON array a line, into the JSON answer.

    The rows' bytes are taken over as the engine wrote them, so that no number loses a digit. Return
    (body, rows, whether rows beyond `rows_max` were cut off).
    """
    head, rows = lines.rstrip(b"\n").split(b"\n")[:2], lines.rstrip(b"\n").split(b"\n")[2:]
    names, types = (orjson.loads(line) for line in head) if len(head) == 2 else ([], [])
    columns = [{"name": name, "type": kind} for name, kind in zip(names, types, strict=True)]
    truncated = len(rows) > rows_max
    del rows[rows_max:]
    statistics = {"rows": len(rows), "elapsed_ms": round(elapsed_ms, 1), "truncated": truncated}
    body = b'{"columns":%b,"rows":[%b],"statistics":%b}' % (
        orjson.dumps(columns),
        b",\n".join(rows),
        orjson.dumps(statistics),
    )
    return body, len(rows), truncated
