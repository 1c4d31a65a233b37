"""The console in a process of its own, over an embedded store that holds what the test put there.

Of its own, because the embedded engine allows one folder per process, and the tests share theirs.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import httpx
import orjson
from support.ports import free_port_block

from console.config import ConsoleConfig, SqlLimits
from console.console import Console
from console.rehearsal import Command
from ops import logs
from ops.http_server import HttpServer, bind
from ops.settings import Settings
from ops.stack.jars import CHARTS, jars_dir
from processors.rollups.roll import turn
from schemas import migrations
from schemas.avro import EXPOSURE
from schemas.kafka import KafkaConnection
from schemas.metrics import ConsoleMetrics
from schemas.store import StoreAddress

TIME_LIMIT_S = 4.0
_SEED = "exposures.avro"
_CONFIGS = "config_versions.jsonl"
PATIENCE_S = 60.0


@dataclass
class RunningConsole:
    """Where it is asked, and its process."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def client(self, **settings: object) -> httpx.Client:
        """Return a client of its API."""
        return httpx.Client(base_url=self.address, timeout=PATIENCE_S, trust_env=False, **settings)  # type: ignore[arg-type]


@contextmanager
def running_console(
    folder: Path,
    kafka: KafkaConnection,
    exposures: Sequence[dict[str, Any]] = (),
    port: int = 0,
    time_limit_s: float = TIME_LIMIT_S,
    viewer_patience_s: float = ConsoleConfig.viewer_patience_s,
    asks_for_keys: bool = False,
    charts: Path | None = None,
    config_rows: bytes = b"",
) -> Iterator[RunningConsole]:
    """Serve a console whose store holds these exposures and lines of config_versions; queries may take `time_limit_s`.

    `charts` is the folder of the chart library, unless given where it is fetched to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIGS).write_bytes(config_rows)
    charts = charts or jars_dir(Settings().cache_dir, CHARTS)
    with (folder / _SEED).open("wb") as seed:
        if exposures:
            fastavro.writer(seed, EXPOSURE.json, exposures)
    port = port or free_port_block(1)
    log = folder / "console.log"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                __file__,
                str(folder),
                kafka.bootstrap,
                *map(str, (port, time_limit_s, viewer_patience_s, int(asks_for_keys), charts)),
            ],
            stderr=output,
            stdout=output,
            env=environment,
        )
    console = RunningConsole(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait_until_it_answers(console)
        yield console
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(console: RunningConsole) -> None:
    until = time.monotonic() + PATIENCE_S
    with console.client() as client:
        while True:
            assert console.process.poll() is None, console.log.read_text()[-3000:]
            assert time.monotonic() < until, console.log.read_text()[-3000:]
            try:
                if client.get("/openapi.json").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)


async def _serve(
    folder: Path,
    bootstrap: str,
    port: int,
    time_limit_s: float,
    viewer_patience_s: float,
    asks_for_keys: bool,
    charts: Path,
) -> None:
    store = StoreAddress(path=folder / "store")
    _fill(store, (folder / _SEED).read_bytes(), (folder / _CONFIGS).read_bytes())
    limits = SqlLimits(time_s=time_limit_s, memory_bytes=256 << 20)
    settings = {"HEADRACE_KAFKA_BOOTSTRAP": bootstrap, "HEADRACE_CONSOLE_URL": f"http://127.0.0.1:{port}"}
    config = ConsoleConfig(
        KafkaConnection(bootstrap),
        store,
        limits,
        asks_for_keys=asks_for_keys,
        charts=charts,
        dry_run=Command((sys.executable, "-m", "ops.cli"), {**os.environ, **settings}),
        viewer_patience_s=viewer_patience_s,
    )
    console = Console(config, ConsoleMetrics())
    server = HttpServer(console.app, bind("127.0.0.1", port, "the port"), drain_s=1)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await console.start()
    await server.start()
    await stopped.wait()
    await console.hang_up()
    await server.stop()
    await console.stop()


def _fill(store: StoreAddress, seed: bytes, config_rows: bytes) -> None:
    client = store.connect()
    migrations.apply(client)
    if seed:
        client.raw_insert("exposures", column_names=EXPOSURE.columns, insert_block=seed, fmt="Avro")
    if config_rows:
        columns = list(orjson.loads(config_rows.splitlines()[0]))
        client.raw_insert("config_versions", column_names=columns, insert_block=config_rows, fmt="JSONEachRow")
    while turn(client) is not None:
        pass
    client.close()


if __name__ == "__main__":
    logs.configure("info", "console")
    folder, bootstrap, port, time_s, patience_s, keys, charts = sys.argv[1:]
    asyncio.run(_serve(Path(folder), bootstrap, int(port), float(time_s), float(patience_s), keys == "1", Path(charts)))
