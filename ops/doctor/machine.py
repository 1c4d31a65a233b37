"""Looking at the machine: programs, folders, ports."""

import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ops.doctor.finding import Finding, bad, ok, warn
from ops.http_server import PortUnavailableError, bind
from ops.settings import Settings
from ops.stack import jars, toolchain
from ops.stack.errors import MissingPartError
from ops.stack.local import ports_of, processes_for

_GIB: Final = 1024**3
_LITTLE_SPACE_BYTES: Final = 5 * _GIB
_NO_SPACE_BYTES: Final = _GIB // 2

_LISTENING: Final = "0A"
"""The state in /proc/net/tcp."""


def examine_programs(settings: Settings) -> Iterator[Finding]:
    """Yield what is installed, as far as these settings need it."""
    yield ok("python", f"{platform.python_version()} ({sys.executable})")
    yield _examine_charts(settings)
    if not settings.has_local_broker:
        return
    try:
        java = toolchain.find_java()
        yield ok("java", f"{java.version} ({java.path})")
    except MissingPartError as error:
        yield bad("java", str(error), error.remedy)
    yield _examine_jars(settings)


def _examine_charts(settings: Settings) -> Finding:
    folder = jars.jars_dir(settings.cache_dir, jars.CHARTS)
    if folder.is_dir():
        return ok("charts", f"{jars.CHARTS.what} {jars.CHARTS.version} ({folder})")
    found = f"{jars.CHARTS.what} is not there: the console's page shows tables in place of charts"
    return warn("charts", found, "Fetch it with Maven: `python -m ops.stack.prepare`.")


def _examine_jars(settings: Settings) -> Finding:
    folder = jars.jars_dir(settings.cache_dir)
    if folder.is_dir():
        return ok("kafka jars", f"{jars.kafka_version()} ({folder})")
    try:
        maven = toolchain.find_maven()
    except MissingPartError as error:
        return bad("maven", str(error), error.remedy)
    return ok("maven", f"{maven.version} ({maven.path}); the first start fetches Kafka {jars.kafka_version()}")


def examine_data_folder(folder: Path) -> Iterator[Finding]:
    """Yield whether the stack can write its data, and for how long."""
    yield _examine_folder(
        "data folder",
        folder,
        "HEADRACE_DATA_DIR",
        (_LITTLE_SPACE_BYTES, "A million events need some 300 MiB in log and store."),
    )


def examine_spill_folder(folder: Path, max_bytes: int) -> Iterator[Finding]:
    """Yield whether the gateway can keep events there while Kafka is away, as many as it is allowed to."""
    yield _examine_folder(
        "spill folder",
        folder,
        "HEADRACE_SPILL_DIR",
        (
            max_bytes + _NO_SPACE_BYTES,
            f"It may take {max_bytes / _GIB:.1f} GiB: make room, or lower HEADRACE_SPILL_MAX_BYTES.",
        ),
    )


def _examine_folder(part: str, folder: Path, setting: str, little: tuple[int, str]) -> Finding:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        probe = existing / ".headrace-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        remedy = f"Make it writable for this user, or choose another with {setting}."
        return bad(part, f"{folder} cannot be written: {error.strerror}", remedy)
    free_bytes = shutil.disk_usage(existing).free
    found = f"{folder}, {free_bytes / _GIB:.1f} GiB free"
    little_bytes, remedy = little
    if free_bytes < _NO_SPACE_BYTES:
        return bad(part, found, f"Make room, or choose a disk with {setting}.")
    return warn(part, found, remedy) if free_bytes < little_bytes else ok(part, found)


def examine_ports(settings: Settings, owner_of: Callable[[int], str]) -> Iterator[Finding]:
    """Yield whether the ports that a stack of these settings takes are free, and who has them if not."""
    taken = []
    for host, port, setting in ports_of(settings, processes_for(settings)):
        try:
            bind(host, port, setting).close()
        except PortUnavailableError:
            owner = owner_of(port) or "an unknown process"
            taken.append(bad(f"port {port}", f"taken by {owner}", f"End it, or choose another port with {setting}."))
    yield from taken
    if not taken:
        yield ok("ports", "all that the stack needs are free")


def listener_of(port: int, proc: Path = Path("/proc")) -> str:
    """Return who listens on a TCP port, as far as this user may know: "process 12 (java)" or ""."""
    inodes = set(_listening_inodes(port, proc))
    for descriptor in proc.glob("[0-9]*/fd/*") if inodes else ():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            process = descriptor.parent.parent
            return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return ""


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in (proc / "net/tcp", proc / "net/tcp6"):
        if not table.is_file():
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]
