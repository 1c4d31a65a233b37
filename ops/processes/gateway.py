"""The gateway process: SDK requests in, chunks on events.raw out."""

from ingest.config import GatewayConfig
from ingest.gateway import Gateway
from ingest.outbox import Outbox, OutboxUnusableError
from ingest.protocol import GatewayProtocol
from ops.http_server import HttpServer, bind
from ops.processes import lifecycle
from ops.processes.stage import CannotStartError
from ops.settings import Settings
from schemas.metrics import GatewayMetrics


def compose(settings: Settings) -> lifecycle.Composition:
    """Return the gateway and its server. Raises PortUnavailableError, CannotStartError."""
    config = GatewayConfig(
        kafka=settings.kafka,
        linger_ms=settings.linger_ms,
        alias_paths=tuple(settings.alias_paths),
        cors_origins=tuple(settings.cors_origins),
        spill_max_bytes=settings.spill_max_bytes,
    )
    listener = bind(settings.host, settings.gateway_port, "HEADRACE_GATEWAY_PORT")
    try:
        outbox = Outbox(settings.spill_folder) if settings.spill_folder else None
    except OutboxUnusableError as error:
        listener.close()
        raise CannotStartError(str(error)) from error
    gateway = Gateway(config, GatewayMetrics(), outbox)
    return lifecycle.Composition([gateway], [HttpServer(gateway.app, listener, protocol=GatewayProtocol)])


def run(settings: Settings) -> int:
    """Serve until told to stop; return the exit code."""
    return lifecycle.run("gateway", settings, compose)
