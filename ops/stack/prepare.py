"""`python -m ops.stack.prepare`: what the first start of a stack would otherwise have to wait for."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from ops import logs, settings
from ops.kafka import answers, publish
from ops.stack import class_archive, jars, toolchain
from ops.stack.broker import Broker
from ops.stack.errors import StackError
from ops.topics import ensure_topics
from schemas.topics import EVENTS_RAW

_START_S: Final = 60
_STOP_S: Final = 60
_POLL_S: Final = 0.1


async def prepare(cache_dir: Path) -> None:
    """Fetch the jars of broker and charts and make the broker's class archive, where they are not there yet.

    Raises StackError when the broker's cannot be had; one without an archive is only slower.
    """
    java = toolchain.find_java()
    libs = await jars.resolve_jars(cache_dir, _say)
    try:
        await jars.resolve_jars(cache_dir, _say, jars.CHARTS)
    except StackError as error:
        _say(f"the page will show tables in place of charts: {error}")
    archive = class_archive.path_of(java, libs)
    if archive.is_file():
        return
    _say("preparing the broker for faster starts, once")
    try:
        await _make_archive(archive)
    except (OSError, KafkaError, TimeoutError, subprocess.SubprocessError) as error:
        _say(f"that failed, and only costs time at each start: {error!r}")


async def _make_archive(archive: Path) -> None:
    """Let a throw-away broker do a little of everything, and keep the classes that it loaded."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        draft = archive.with_suffix(f".{os.getpid()}")
        broker = Broker(Path(folder), _free_ports(), archive.parent)
        java, *rest = (await broker.prepare()).command
        process = await asyncio.create_subprocess_exec(
            *(java, f"-XX:ArchiveClassesAtExit={draft}", *rest),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + _START_S
            while why_not := await answers(broker.connection):
                if process.returncode is not None or time.monotonic() > until:
                    raise TimeoutError(why_not)
                await asyncio.sleep(_POLL_S)
            await ensure_topics(broker.connection, 1, store_log=0)
            await publish(broker.connection, EVENTS_RAW, [(b"", b"")])
            process.terminate()
            await asyncio.wait_for(process.wait(), _STOP_S)
            draft.rename(archive)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            draft.unlink(missing_ok=True)


def _free_ports() -> int:
    """Return a port that is free together with the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def _say(detail: str) -> None:
    sys.stdout.write(f"{detail}\n")
    sys.stdout.flush()


def main() -> int:
    """Prepare for the settings in force; return the exit code."""
    logs.configure("critical")  # what clients say of a broker that has just come up is of no use here
    try:
        asyncio.run(prepare(settings.load().cache_dir))
    except StackError as error:
        sys.stderr.write(f"error: {error}\n  {error.remedy}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
