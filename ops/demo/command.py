"""From the command's arguments to its exit code."""

import asyncio
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path

from aiokafka.errors import KafkaError

from ops.demo.landed import ConsoleError
from ops.demo.push import NotKnownError
from ops.demo.run import Demo, Options
from ops.demo.screen import print_summary, shown
from ops.demo.state import State
from ops.demo.summary import Summary
from ops.output import ExitCode, fail, print_json
from ops.settings import Settings
from ops.stack.errors import StackError


def run(settings: Settings, *, events: int, rate: float, ends: bool, seed: int, as_json: bool) -> int:
    """Play the demo and print what it came to; return the exit code. Ends with a clear error where it cannot play."""
    if find_spec("statsig_python_core") is None:
        fail(
            "the demo needs a Statsig SDK, and statsig-python-core is not installed.",
            "Install it with `pip install headrace[demo]`, or start the stack alone with `headrace up`.",
            ExitCode.UNREACHABLE,
        )
    state = State(console=settings.console_address)
    demo = Demo(settings, Options(events, rate, ends, seed), state, time.monotonic() - process_age_s())
    try:
        with shown(state, quietly=as_json):
            summary = asyncio.run(_play(demo))
    except asyncio.CancelledError:
        fail("stopped before there was anything to count; nothing is left running.")
    except StackError as error:
        fail(str(error), error.remedy, ExitCode.UNREACHABLE)
    except ExceptionGroup as group:
        stack, rest = group.split(StackError)
        if stack is None or rest is not None:
            raise
        first = stack.exceptions[0]
        fail("; ".join(str(error) for error in stack.exceptions), getattr(first, "remedy", ""), ExitCode.UNREACHABLE)
    except NotKnownError as error:
        fail(
            str(error),
            "Newer config specs in this data folder win; use another HEADRACE_DATA_DIR or HEADRACE_PROJECT.",
        )
    except (ConsoleError, KafkaError, OSError) as error:
        fail(f"the stack stopped answering: {error!r}", f"Its logs: {settings.data_dir / 'logs'}")
    if as_json:
        print_json(summary.as_json())
    else:
        print_summary(summary, settings.console_address)
    return ExitCode.OK if summary.is_exact else ExitCode.FAILED


def process_age_s() -> float:
    """Return how long this process has lived: what a user waits for includes the interpreter's start."""
    try:
        started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError):
        return 0.0  # no Linux: counted from here


async def _play(demo: Demo) -> Summary:
    """Play until the end or until a signal: the first ends the playing in order, a second one at once."""
    playing = asyncio.ensure_future(demo.play())

    def on_signal() -> None:
        if demo.is_playing and not demo.was_stopped:
            demo.stop()
        else:
            playing.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return await playing
