"""Faust as it is and Faust as we use it, side by side, without a broker."""

import asyncio
from typing import Any

import faust

from processors.faust_measures import MeasuredTransport, NoFoldersApp

SETTINGS: dict[str, Any] = {
    "store": "memory://",
    "web_enabled": False,
    "autodiscover": False,
    "topic_allow_declare": False,
    "topic_disable_leader": True,
    "stream_wait_empty": False,
    "stream_recovery_delay": 0.0,
}


def stock_app(broker: str = "127.0.0.1:1", name: str = "stock", **settings: Any) -> faust.App:
    """Return an app with the consumer that Faust ships."""
    return NoFoldersApp(name, broker=f"kafka://{broker}", **{**SETTINGS, **settings})


def measured_app(broker: str = "127.0.0.1:1", name: str = "measured", **settings: Any) -> faust.App:
    """Return an app with the measures of `processors/faust_measures.py`."""
    app = stock_app(broker, name, **settings)
    app.transport = MeasuredTransport(app.conf.broker_consumer, app)
    app.fail = lambda error: asyncio.get_running_loop().call_exception_handler({"exception": error})
    return app
