"""The gateway process: SDK requests in, chunks on events.raw out."""

import resource
from typing import Final

from ingest.config import GatewayConfig
from ingest.gateway import Gateway
from ingest.outbox import Outbox, OutboxUnusableError
from ingest.protocol import GatewayProtocol
from ops.http_server import HttpServer, bind
from ops.processes import lifecycle
from ops.processes.stage import CannotStartError
from ops.settings import Settings
from schemas.exposure_rule import ExposureRule
from schemas.limits import CONNECTIONS, DRAIN_S
from schemas.metrics import GatewayMetrics

_OTHER_FILES: Final = 1_000


def compose(settings: Settings) -> lifecycle.Composition:
    """Return the gateway and its server. Raises PortUnavailableError, CannotStartError."""
    config = GatewayConfig(
        kafka=settings.kafka,
        linger_ms=settings.linger_ms,
        alias_paths=tuple(settings.alias_paths),
        cors_origins=tuple(settings.cors_origins),
        exposure_rule=ExposureRule.of(settings.otlp_exposures),
        spill_max_bytes=settings.spill_max_bytes,
    )
    _allow_files()
    listener = bind(settings.host, settings.gateway_port, "HEADRACE_GATEWAY_PORT")
    try:
        outbox = Outbox(settings.spill_folder) if settings.spill_folder else None
    except OutboxUnusableError as error:
        listener.close()
        raise CannotStartError(str(error)) from error
    gateway = Gateway(config, GatewayMetrics(), outbox)
    server = HttpServer(gateway.app, listener, protocol=GatewayProtocol, drain_s=DRAIN_S + 1)
    return lifecycle.Composition([gateway], [server])


def _allow_files() -> None:
    """Let the process open as many files as its connections may need, where a shell's default forbids it."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + _OTHER_FILES
    if now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), most))


def run(settings: Settings) -> int:
    """Serve until told to stop; return the exit code."""
    return lifecycle.run("gateway", settings, compose)
