"""Looking at what runs: the stack's processes, the log, the console."""

from collections.abc import Iterator, Sequence
from typing import Final

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from ops.doctor.finding import Finding, bad, ok, warn
from ops.kafka import admin_client, answers
from ops.kafka_metadata import ClusterState, describe
from ops.settings import Settings
from ops.stack import record
from ops.stack.local import processes_for, why_not_ready
from ops.topics import known_logs, topics_with
from schemas.kafka import KafkaConnection
from schemas.logs import Logs
from schemas.topics import CUSTOM_EVENTS, DEAD_LETTERS, EXPOSURES, LANDER_GROUP, TOPICS, Topic, worker_group

_CONSOLE_S: Final = 5
_MUCH_LAG_RECORDS: Final = 5_000


def stack_runs(settings: Settings) -> bool:
    """Whether a stack of ours holds the data folder."""
    written = record.read(settings.data_dir)
    return written is not None and written.id.is_alive


def examine_stack(settings: Settings) -> Iterator[Finding]:
    """Yield which stack runs over the data folder, and each process that should run and does not."""
    written = record.read(settings.data_dir)
    if written is None or not written.id.is_alive:
        yield warn("stack", f"none runs over {settings.data_dir}", "Start it with `headrace up`.")
        return
    yield ok("stack", f"process {written.pid} over {settings.data_dir}")
    logs = settings.data_dir.resolve() / "logs"
    for name, child in written.children.items():
        if not child.id.is_alive:
            yield bad(name, "it has died and is being started again", f"Read {logs / name}.log.")


def examine_processes(settings: Settings) -> Iterator[Finding]:
    """Yield whether each process of ours is ready, and what it waits for. Blocks."""
    for name in processes_for(settings):
        port = settings.admin_port(name)
        why_not = why_not_ready(settings.admin_host, port)
        if why_not:
            yield bad(
                name, f"not ready: {why_not}", f"Read its log; http://{settings.admin_host}:{port}/readyz tells more."
            )
        else:
            yield ok(name, "ready")


async def examine_kafka(settings: Settings) -> list[Finding]:
    """Return whether the log answers, whether its topics are right, and how far behind its readers are."""
    connection = settings.kafka
    if why_not := await answers(connection):
        remedy = "Start it with `headrace up`, or correct HEADRACE_KAFKA_BOOTSTRAP or HEADRACE_KAFKA_PORT."
        return [bad("kafka", why_not, remedy)]
    findings = [ok("kafka", f"{connection.bootstrap} answers")]
    try:
        async with admin_client(connection) as admin:
            logs = await known_logs(admin, connection)
            grown = logs.newest is not None and logs.newest.after
            topics = topics_with(logs.topic)
            raw = [record.topic for record in logs.to_process] or [logs.topic]
            cluster = await describe(admin, [*{*raw, *[topic.name for topic in topics]}])
            findings += judge_topics(cluster, logs.line[-1].partitions if grown else settings.partitions, topics)
            findings += judge_growth(logs)
            if logs.topic in cluster.topics:
                ends = await _ends(connection, cluster)
                worked: dict[TopicPartition, int] = {}
                for topic in raw:
                    worked |= await _committed(admin, worker_group(topic))
                findings += judge_lag("worker", ends, worked, tuple(raw))
                landed = await _committed(admin, LANDER_GROUP)
                findings += judge_lag(_lander_of(settings), ends, landed, (EXPOSURES, CUSTOM_EVENTS))
                findings += judge_dead_letters(ends)
    except (KafkaError, TimeoutError, OSError) as error:
        findings.append(bad("kafka", f"it failed: {error!r}", "Look at the broker's log."))
    return findings


def _lander_of(settings: Settings) -> str:
    return "store" if settings.store.is_embedded else "lander"


def judge_growth(logs: Logs) -> Iterator[Finding]:
    """Yield whether the log is being given more partitions."""
    if len(logs.to_process) < 2:
        return
    old, new = logs.to_process[:2]
    if old.log in logs.ends:
        yield warn("topics", f"log {old.log} is drained before log {new.log} is read", "Wait; `worker lag` tells.")
    else:
        found = f"log {old.log} is not sealed, so that nothing of log {new.log} is processed"
        yield bad("topics", found, f"Run `headrace topics grow --partitions {new.partitions}` to its end.")


def judge_topics(cluster: ClusterState, partitions: int, topics: Sequence[Topic] = TOPICS) -> Iterator[Finding]:
    """Yield what is wrong with the topics."""
    missing = [topic.name for topic in topics if topic.name not in cluster.topics]
    if missing:
        yield bad("topics", f"missing: {', '.join(missing)}", "Run `headrace init`.")
    wrong = []
    for topic in topics:
        state = cluster.topics.get(topic.name)
        wanted = partitions if topic.partitioned else 1
        is_ready = topic.partitioned and topic is not topics[0] and state is not None and state.partitions > wanted
        if state is not None and state.partitions != wanted and not is_ready:
            found = f"{topic.name} has {state.partitions} partitions, {wanted} are wanted"
            wrong.append(bad("topics", found, "Correct HEADRACE_PARTITIONS."))
        elif state is not None and not state.has_leaders:
            wrong.append(bad("topics", f"{topic.name} has partitions without a leader", "Look at the brokers."))
    yield from wrong
    if not missing and not wrong:
        yield ok("topics", f"all {len(topics)} are there; {topics[0].name} has {partitions} partitions")


def judge_lag(
    part: str, ends: dict[TopicPartition, int], committed: dict[TopicPartition, int], topics: tuple[str, ...]
) -> Iterator[Finding]:
    """Yield how many records a reader has before it."""
    lag = sum(end - committed.get(partition, 0) for partition, end in ends.items() if partition.topic in topics)
    found = f"{lag:,} records of {', '.join(topics)} not yet committed"
    if lag > _MUCH_LAG_RECORDS:
        yield warn(f"{part} lag", found, f"Running, it catches up; if it grows, read the log of {part} or add another.")
    else:
        yield ok(f"{part} lag", found)


def judge_dead_letters(ends: dict[TopicPartition, int]) -> Iterator[Finding]:
    """Yield how many events could not be processed."""
    for topic in DEAD_LETTERS:
        count = sum(end for partition, end in ends.items() if partition.topic == topic)
        if count:
            yield warn(topic, f"{count:,} records", "Events wait there with their bytes and the reason.")


async def _committed(admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
    found = await admin.list_consumer_group_offsets(group)
    return {partition: entry.offset for partition, entry in found.items() if entry.offset >= 0}


async def _ends(connection: KafkaConnection, cluster: ClusterState) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(**connection.client_settings(), enable_auto_commit=False)
    try:
        await consumer.start()
        partitions = [TopicPartition(t.name, n) for t in cluster.topics.values() for n in range(t.partitions)]
        ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        return ends
    finally:
        await consumer.stop()


def examine_console(settings: Settings) -> Finding:
    """Return whether the console can be reached where the command line looks for it. Blocks."""
    try:
        status = httpx.get(settings.console_address, timeout=_CONSOLE_S, trust_env=False).status_code
    except httpx.HTTPError as error:
        remedy = "Start it with `headrace up`, or correct HEADRACE_CONSOLE_URL or HEADRACE_CONSOLE_PORT."
        return bad("console", f"{settings.console_address} does not answer ({type(error).__name__})", remedy)
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return bad("console", f"{settings.console_address} answers {status}", "Read the log of the store or console.")
    return ok("console", settings.console_address)
