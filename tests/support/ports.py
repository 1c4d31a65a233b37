"""Free ports for stacks that run side by side."""

import random
import socket

# Below Linux's ephemeral range (32768…), so that no outgoing connection takes one meanwhile.
_LOWEST, _HIGHEST = 27_000, 32_000


def free_port_block(size: int) -> int:
    """Return the first of `size` consecutive ports that nobody listens on."""
    for _ in range(200):
        first = random.randrange(_LOWEST, _HIGHEST - size)
        if all(_is_free(port) for port in range(first, first + size)):
            return first
    raise RuntimeError(f"no {size} consecutive free ports between {_LOWEST} and {_HIGHEST}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
