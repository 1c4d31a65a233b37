"""Server-sent events, as the HTML standard frames them (section 9.2, "Server-sent events")."""

from typing import Final

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT: Final = b": still here\n\n"


def message(event: str, data: bytes, stream_id: str = "") -> bytes:
    """Frame one message. `data` is JSON without line breaks; a stream id is what a viewer resumes from."""
    assert b"\n" not in data, "JSON as it is written here has no line breaks"
    first = f"id: {stream_id}\n".encode() if stream_id else b""
    return b"%bevent: %b\ndata: %b\n\n" % (first, event.encode(), data)


def position(stream_id: str) -> bytes:
    """Frame an id alone: it moves the place to resume from without a message."""
    return f"id: {stream_id}\n\n".encode()
