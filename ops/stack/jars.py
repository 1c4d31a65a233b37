"""Jars: the broker's and the charts', fetched once by Maven, kept in the cache folder, shared by all stacks."""

import asyncio
import contextlib
import fcntl
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from ops.stack import toolchain
from ops.stack.errors import StackError

_LAST_LINES: Final = 12
_LOCK_RETRY_S: Final = 0.2


@dataclass(frozen=True)
class Jars:
    """What one pom.xml of this folder names; `proof` is the jar without which the others are nothing."""

    what: str
    name: str
    pom_file: str
    proof: str

    @property
    def pom(self) -> str:
        """The text of the pom."""
        return files("ops.stack").joinpath(self.pom_file).read_text("utf-8")

    @property
    def version(self) -> str:
        """The version that the pom asks for."""
        found = re.search(rf"<{self.name}\.version>([^<]+)</{self.name}\.version>", self.pom)
        assert found is not None
        return found[1]


KAFKA: Final = Jars("Kafka", "kafka", "pom.xml", "kafka_*.jar")
CHARTS: Final = Jars("Chart.js", "charts", "charts.xml", "chart.js-*.jar")


def kafka_version() -> str:
    """Return the version of Kafka that the local stack runs."""
    return KAFKA.version


def jars_dir(cache_dir: Path, jars: Jars = KAFKA) -> Path:
    """Return the folder that holds the jars, whether or not they are there yet."""
    return cache_dir.resolve() / f"{jars.name}-{jars.version}"


async def resolve_jars(
    cache_dir: Path, on_progress: Callable[[str], None] = lambda _: None, jars: Jars = KAFKA
) -> Path:
    """Return the folder with the jars, fetching them when they are not there.

    The folder appears whole or not at all; of two that want it at once, one fetches. Raises
    StackError, with Maven's last words.
    """
    target = jars_dir(cache_dir, jars)
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    async with _locked(target.with_name(f"{target.name}.lock")):
        if target.is_dir():
            return target
        maven = await asyncio.to_thread(toolchain.find_maven)
        on_progress(f"fetching {jars.what} {jars.version} with Maven, once")
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as scratch:
            await _fetch(maven.path, Path(scratch), jars)
            (Path(scratch) / "libs").rename(target)
    return target


async def _fetch(maven: str, scratch: Path, jars: Jars) -> None:
    (scratch / "pom.xml").write_text(jars.pom, "utf-8")
    process = await asyncio.create_subprocess_exec(
        *(maven, "-q", "-B", "--strict-checksums", "-f", str(scratch / "pom.xml")),
        *("dependency:copy-dependencies", f"-DoutputDirectory={scratch / 'libs'}"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0 or not any((scratch / "libs").glob(jars.proof)):
        lines = said.decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
        raise StackError(
            f"Maven could not fetch the jars of {jars.what} (exit {process.returncode}):\n" + "\n".join(lines),
            "Check the network, and the mirrors in Maven's settings.xml.",
        )


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    with path.open("w") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_RETRY_S)
        yield


def classpath(libs: Path) -> str:
    """Return the classpath of all jars, in an order that never changes."""
    return ":".join(str(jar) for jar in sorted(libs.glob("*.jar")))


if __name__ == "__main__":
    sys.stdout.write(f"{asyncio.run(resolve_jars(Path(sys.argv[1])))}\n")
