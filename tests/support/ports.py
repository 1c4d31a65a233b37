"""Free ports for stacks that run side by side."""

import random
import socket

# Below Linux's ephemeral range (32768…), so that no outgoing connection takes one meanwhile.
_LOWEST, _HIGHEST = 27_000, 32_000
_BLOCK = 8

_ours: list[socket.socket] = []


def free_port_block(size: int) -> int:
    """Return the first of `size` (at most 8) consecutive ports that nobody listens on, and that only this process has.

    What is started takes seconds to listen, and meanwhile another run of tests may look for ports.
    """
    assert size <= _BLOCK
    for _ in range(1000):
        first = random.randrange(_LOWEST, _HIGHEST, _BLOCK)
        if all(_is_free(port) for port in range(first, first + size)) and _take(first):
            return first
    raise RuntimeError(f"no {size} consecutive free ports between {_LOWEST} and {_HIGHEST}")


def _take(first: int) -> bool:
    """Claim a block until this process ends, by a name that the kernel gives to one only."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0headrace-tests-ports-{first}")
    except OSError:
        claim.close()
        return False
    _ours.append(claim)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
