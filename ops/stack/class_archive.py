"""The broker's classes as the JVM likes them best: loaded, verified, and laid out to be mapped.

A shared class archive halves the CPU time of a start (6 s to 3 s on 2 cores) and takes a third off
its duration. It is made once for each pair of Java and Kafka; without it the broker starts as well.
"""

import re
from pathlib import Path

from ops.stack.toolchain import Program


def path_of(java: Program, libs: Path) -> Path:
    """Return where the archive of these jars for this Java is, whether or not it is there."""
    return libs.with_name(f"{libs.name}-java-{re.sub(r'[^0-9A-Za-z.]+', '-', java.version)}.jsa")


def options(java: Program, libs: Path) -> tuple[str, ...]:
    """Return the JVM's options that use the archive, none when it has not been made."""
    archive = path_of(java, libs)
    # Should it not fit after all, the JVM says so and starts without it.
    return (f"-XX:SharedArchiveFile={archive}",) if archive.is_file() else ()
