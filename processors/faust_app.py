"""Faust as the worker uses it: its settings, and the classes that correct it."""

from collections.abc import Callable
from typing import Any, Final

import faust

from processors.config import WorkerConfig
from processors.faust_measures import MeasuredTransport, NoFoldersApp, NoWebBoot
from schemas.kafka import KafkaConnection
from schemas.limits import MIB
from schemas.topics import WORKER_APP_ID

COMMIT_INTERVAL_S: Final = 1.0
SESSION_TIMEOUT_S: Final = 8.0
_FETCH_BYTES: Final = 4 * MIB
_POLL_CHUNKS: Final = 200
"""Taken from a fetch at once: what is fetched is compressed, and a chunk has 512 KiB or more."""


def new_app(
    config: WorkerConfig, pending_chunks: int, fail: Callable[[BaseException], object], group: str = WORKER_APP_ID
) -> faust.App:
    """Return an app of a group that is not started and has no agent; `fail` ends the process, from any thread."""
    app = NoFoldersApp(
        group,
        broker=f"kafka://{config.kafka.bootstrap.replace(',', ';')}",
        broker_credentials=_credentials(config.kafka),
        store="memory://",
        processing_guarantee="at_least_once",
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=f"{WORKER_APP_ID}-{config.instance}",
        consumer_max_fetch_size=_FETCH_BYTES,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 3,
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_max_poll_records=_POLL_CHUNKS,
        stream_buffer_maxsize=pending_chunks,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        autodiscover=False,
    )
    app.BootStrategy = NoWebBoot
    app.boot_strategy = NoWebBoot(app)
    app.transport = MeasuredTransport(app.conf.broker_consumer, app)
    app.fail = fail
    return app


def _credentials(connection: KafkaConnection) -> Any:
    settings = connection.client_settings()
    tls = settings.get("ssl_context")
    if connection.sasl_mechanism:
        return faust.SASLCredentials(
            username=connection.sasl_username,
            password=connection.sasl_password,
            mechanism=connection.sasl_mechanism,
            ssl_context=tls,
        )
    return faust.SSLCredentials(tls) if tls is not None else None
