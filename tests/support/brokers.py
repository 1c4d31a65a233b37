"""A real Kafka for tests, from whichever provider this machine has."""

import asyncio
import contextlib
import functools
import gc
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import docker
from docker.errors import DockerException
from support.ports import free_port_block
from testcontainers.core.container import DockerContainer

from ops.kafka import answers
from ops.settings import Settings
from ops.stack import child
from ops.stack.broker import Broker
from ops.stack.jars import kafka_version
from schemas.kafka import KafkaConnection

T = TypeVar("T")

_PATIENCE_S = 90


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker engine can be used."""
    with warnings.catch_warnings():
        # The client forgets its socket when the engine does not answer.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            docker.from_env(timeout=5).close()
            found = True
        except (DockerException, OSError):
            found = False
        gc.collect()
    return found


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[KafkaConnection]:
    """Run an empty broker: a container where a Docker engine answers, else the embedded one."""
    with _container() if docker_answers() else _embedded(folder) as connection:
        yield connection


@contextlib.contextmanager
def _embedded(folder: Path) -> Iterator[KafkaConnection]:
    broker = Broker(folder, free_port_block(2), Settings().cache_dir)
    spec = run_apart(broker.prepare())
    with (folder / "broker.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), *spec.command],
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_it_answers(broker.connection, lambda: process.poll() is None, folder / "broker.log")
        yield broker.connection
    finally:
        process.kill()  # its data is thrown away, so it need not write it down
        process.wait()


@contextlib.contextmanager
def _container() -> Iterator[KafkaConnection]:
    port = free_port_block(1)
    container = DockerContainer(f"apache/kafka:{kafka_version()}").with_bind_ports(9092, port)
    for name, value in {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }.items():
        container.with_env(name, value)
    with container:
        connection = KafkaConnection(f"127.0.0.1:{port}")
        _wait_until_it_answers(connection, lambda: True, None)
        yield connection


def _wait_until_it_answers(connection: KafkaConnection, is_alive: Callable[[], bool], log: Path | None) -> None:
    until = time.monotonic() + _PATIENCE_S
    while why_not := run_apart(answers(connection)):
        if not is_alive() or time.monotonic() > until:
            raise RuntimeError(f"the broker did not come up: {why_not}\n{log.read_text()[-2000:] if log else ''}")
        time.sleep(0.05)


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own, whether or not one runs here already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
