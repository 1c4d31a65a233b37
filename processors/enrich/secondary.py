"""Secondary exposures: the gates and holdouts that an SDK looked at on the way to a decision.

Pure. Holdouts are told nowhere else. An SDK lists `[{gate, gateValue, ruleID}]`, the same gate often
twice; each is an exposure of its gate by the same unit at the same moment, of the same document.
"""

from typing import Any, Final, NamedTuple

import msgspec

from schemas.limits import SECONDARY_EXPOSURES
from schemas.wire import ExposureMetadata, flag_text, text_of

NOTHING_BYTES: Final = len(b"null")
"""What is no longer lists nothing: absent, null, `[]`."""


class Secondaries(NamedTuple):
    """What an event lists, each once, and how many were left out because they are too many or name nothing."""

    shown: list[tuple[bytes, ExposureMetadata]]
    """What stands in the row's `metadata`, and what the gate is matched by."""
    left_out: int


_decode: Final = msgspec.json.Decoder(list[Any]).decode
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def read(raw: bytes, parent: ExposureMetadata) -> Secondaries:
    """Return the secondary exposures of an exposure, in their order; a list that cannot be read counts as one."""
    try:
        listed = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Secondaries([], 1)
    found: dict[tuple[str, str, str], None] = {}
    nameless = 0
    for each in listed:
        name = text_of(each.get("gate")) if isinstance(each, dict) else ""
        if name:
            found[name, flag_text(each.get("gateValue")), text_of(each.get("ruleID"))] = None
        else:
            nameless += 1
    kept = list(found)[:SECONDARY_EXPOSURES]
    shown = [
        (
            _encode({"gate": gate, "gateValue": value, "ruleID": rule}),
            # The document is the parent's; its version is of the parent alone.
            msgspec.structs.replace(
                parent,
                gate=gate,
                gateValue=value,
                ruleID=rule,
                config=None,
                rulePassed=None,
                allocatedExperiment=None,
                overrideConfigName=None,
                parameterName=None,
                configVersion=None,
            ),
        )
        for gate, value, rule in kept
    ]
    return Secondaries(shown, len(found) - len(kept) + nameless)
