"""The two programs that the local broker needs: Java to run it, Maven to fetch it once."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.stack.errors import MissingPartError

JAVA_AT_LEAST: Final = 17
_TIMEOUT_S: Final = 30


@dataclass(frozen=True)
class Program:
    """An installed program."""

    path: str
    version: str


def find_java() -> Program:
    """Return the Java that runs the broker: JAVA_HOME's, else the one on PATH. Raises MissingPartError."""
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    path = path or shutil.which("java")
    remedy = f"Install a Java runtime, version {JAVA_AT_LEAST} or later (Debian: apt install openjdk-17-jre-headless)."
    if path is None:
        raise MissingPartError("Java is not installed, and the local Kafka broker needs it.", remedy)
    said = _ask([path, "-version"])
    found = re.search(r'version "([^"]+)"', said)
    if found is None:
        raise MissingPartError(f"{path} does not say which version it is: {said.strip()[:200]!r}", remedy)
    version = found[1]
    if java_major(version) < JAVA_AT_LEAST:
        raise MissingPartError(f"{path} is Java {version}; the local Kafka broker needs {JAVA_AT_LEAST}.", remedy)
    return Program(path, version)


def java_major(version: str) -> int:
    """Return the major version of a Java version string: 8 of `1.8.0_392`, 17 of `17.0.15`, 21 of `21-ea`."""
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    if not numbers:
        return 0
    return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]


def find_maven() -> Program:
    """Return the Maven that fetches the broker's jars. Raises MissingPartError."""
    remedy = "Install Maven (Debian: apt install maven); it is needed once, to fetch the broker's jars."
    path = shutil.which("mvn")
    if path is None:
        raise MissingPartError("Maven is not installed, and the local Kafka broker is fetched with it.", remedy)
    said = _ask([path, "-B", "-version"])
    found = re.search(r"Apache Maven (\S+)", said)
    if found is None:
        raise MissingPartError(f"{path} does not say which version it is: {said.strip()[:200]!r}", remedy)
    return Program(path, re.sub(r"\x1b\[[0-9;]*m", "", found[1]))


def _ask(command: list[str]) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return repr(error)
    return answer.stdout + answer.stderr
