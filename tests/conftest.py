"""What every test may use: a real broker, a whole stack, free ports; and no skipping in CI."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, settings
from support.brokers import run_apart, running_broker
from support.ports import free_port_block

from ops.settings import Settings
from ops.stack.local import LocalStack
from ops.topics import ensure_topics
from schemas.kafka import KafkaConnection

PARTITIONS = 4

# A machine that runs a broker beside the tests makes some example slow now and then, and that is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", settings.get_profile("patient"), max_examples=10_000, print_blob=True)
settings.load_profile("patient")

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes that are no text by their size: gzip writes the time into them, and processes must agree on names."""
    return f"{len(val)}-bytes" if isinstance(val, bytes) and not val.isascii() else None


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_developer() -> Iterator[None]:
    """A HEADRACE_* variable of the shell must not decide a test; only the shared cache is kept."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("HEADRACE_") and n != "HEADRACE_CACHE_DIR"]:
            patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A command that runs in this process says what is logged; the next test must not inherit that."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaConnection]:
    """A broker with all topics, shared by the whole run: expect records of other tests in them."""
    with running_broker(tmp_path_factory.mktemp("broker")) as connection:
        run_apart(ensure_topics(connection, PARTITIONS, store_log=0))
        yield connection


@pytest.fixture
def new_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], KafkaConnection]]:
    """Start an empty broker for this test alone, without topics; it takes some seconds."""
    with ExitStack() as running:
        yield lambda: running.enter_context(running_broker(tmp_path_factory.mktemp("broker")))


@pytest.fixture
def stack_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a stack with a data folder and ports of its own; arguments override."""

    def make(**overrides: Any) -> Settings:
        first = free_port_block(8)
        ports = {
            "gateway_port": first,
            "console_port": first + 1,
            "kafka_port": first + 2,
            "admin_port_base": first + 4,
        }
        return Settings(**{"data_dir": tmp_path / f"stack-{first}", **ports, **overrides})

    return make


@pytest.fixture
def stack(stack_settings: Callable[..., Settings]) -> Callable[..., LocalStack]:
    """Plan a local stack of its own: `async with stack(partitions=2) as running: …`.

    `processes` and `on_event` are LocalStack's, everything else is a setting.
    """

    def make(**arguments: Any) -> LocalStack:
        own = {name: arguments.pop(name) for name in ("processes", "on_event") if name in arguments}
        return LocalStack(stack_settings(**arguments), **own)

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that skips itself has failed: nobody would notice that it never runs."""
    report = yield
    return _not_skipped_in_ci(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI a module that skips itself has failed."""
    report = yield
    return _not_skipped_in_ci(report)


def _not_skipped_in_ci(report: _Report) -> _Report:
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report
