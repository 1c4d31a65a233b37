"""The local broker: one node of the real Apache Kafka, in KRaft mode, as a child process."""

import asyncio
import base64
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.kafka import answers
from ops.stack import class_archive, jars, toolchain
from ops.stack.errors import StackError
from ops.stack.supervisor import ChildSpec, Report
from schemas.kafka import KafkaConnection

_START_TIMEOUT_S: Final = 90
_STOP_GRACE_S: Final = 20

_HEAP: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC")

_PROPERTIES: Final = """\
# Written at every start of the stack; changes made here are lost.
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={log_dir}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# A single voter has nobody to wait for: a second less at every start.
controller.quorum.election.timeout.ms=100
# After a SIGKILL the broker is let in again when its old session is over (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# A group of one member need not wait for others.
group.initial.rebalance.delay.ms=0
# 128 MiB by default, a quarter of the heap, for topics of some thousand keys.
log.cleaner.dedupe.buffer.size=33554432
num.network.threads=2
num.io.threads=4
"""

_LOGGING: Final = """\
status=error
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1} %m%n
"""


@dataclass(frozen=True)
class Broker:
    """A broker whose files are below `data_dir`, listening on `port`, its controller on `port` + 1."""

    data_dir: Path
    port: int
    cache_dir: Path

    @property
    def connection(self) -> KafkaConnection:
        """How to reach it."""
        return KafkaConnection(f"127.0.0.1:{self.port}")

    async def prepare(self, report: Report = lambda _: None) -> ChildSpec:
        """Fetch the jars and format the log where that is still to do; return how to start the broker.

        Raises StackError.
        """
        java = await asyncio.to_thread(toolchain.find_java)
        libs = await jars.resolve_jars(self.cache_dir, report)
        home = self.data_dir.resolve() / "broker"
        home.mkdir(parents=True, exist_ok=True)
        properties = home / "server.properties"
        log_dir = home / "log"
        text = _PROPERTIES.format(port=self.port, controller_port=self.port + 1, log_dir=log_dir)
        properties.write_text(text, "utf-8")
        logging = home / "log4j2.properties"
        logging.write_text(_LOGGING, "utf-8")
        tuning = (*_HEAP, *class_archive.options(java, libs))
        run = [java.path, *tuning, f"-Dlog4j2.configurationFile={logging}", "-cp", jars.classpath(libs)]
        if not (log_dir / "meta.properties").is_file():
            report("formatting its log")
            await _format(run, properties)
        return ChildSpec(
            name="broker",
            command=(*run, "kafka.Kafka", str(properties)),
            ready=self.readiness,
            start_timeout_s=_START_TIMEOUT_S,
            stop_grace_s=_STOP_GRACE_S,
        )

    async def readiness(self) -> str:
        """Return "" when a client is served, else why not."""
        return await answers(self.connection)


async def _format(run: list[str], properties: Path) -> None:
    # Kafka writes a UUID as unpadded URL-safe base64; one that began with "-" would read as an option.
    cluster_id = "x" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    process = await asyncio.create_subprocess_exec(
        *run,
        *("kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(properties)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        raise StackError(
            f"The broker's log could not be formatted: {said.decode(errors='replace').strip()[-1000:]}",
            f"Check that {properties.parent} can be written and has space.",
        )
