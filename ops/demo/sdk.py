"""The program that the demo plays: a real Statsig SDK, in a process of its own.

It says what it is about to log on its standard output (and in a ledger file) before it logs it, so
that nothing it did is unknown to whoever counts. It ends when it reads `stop`, and at once when its
standard input closes: its parent is gone then.

The key comes in the environment, where other users of the machine cannot read it.
"""

import argparse
import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO, Final, Literal

from statsig_python_core import ObservabilityClient, Statsig, StatsigOptions, StatsigUser

from ops.demo.logged import Arm, Line, Logged, Progress, encode
from ops.demo.plan import EXPERIMENT, READS, Item, Run, Visitor, actions, visitor

KEY_VARIABLE: Final = "HEADRACE_DEMO_KEY"

_EVENTS_PER_REQUEST: Final = 500
# The SDK drops its oldest batches when 100 of them wait; far below that, wait for the answers.
_EVENTS_PER_FLUSH: Final = 2_000
_FLUSH_EVERY_S: Final = 0.3
# A flush tries every waiting batch at once, and the SDK drops a batch after five retries: while the
# gateway says 503, flushing as usual would use them up within a second.
_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 16.0
_PARENT_IS_GONE: Final = 3


class Report:
    """Where the lines go: to the parent, and to a file that outlives both."""

    def __init__(self, pipe: BinaryIO, ledger: BinaryIO | None) -> None:
        self._outputs = [output for output in (ledger, pipe) if output is not None]

    def write(self, line: Line) -> None:
        """Write one line so that it survives this process."""
        encoded = encode(line)
        for output in self._outputs:
            output.write(encoded)
            output.flush()


class Answers(ObservabilityClient):  # type: ignore[misc]  # the SDK is not typed for mypy
    """What the SDK says of its requests. Called from the SDK's own threads."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self.acknowledged = 0
        self.failures = 0
        self.given_up = 0

    def increment(self, metric_name: str, value: float, _tags: dict[str, str] | None = None) -> None:
        """Count the events that the gateway took."""
        if metric_name.endswith("events_successfully_sent_count"):
            with self._lock:
                self.acknowledged += int(value)

    def should_enable_high_cardinality_for_this_tag(self, _tag: str) -> bool:
        """Answer as the SDK insists on being answered."""
        return False

    def error(self, tag: str, _error: str) -> None:
        """Count the requests that failed, and the batches that the SDK dropped after its last retry."""
        with self._lock:
            self.failures += 1
            self.given_up += tag.endswith("log_event_failed")


class Application:
    """A program with an SDK in it."""

    def __init__(self, statsig: Statsig, answers: Answers, run: Run, report: Report, stopping: threading.Event) -> None:
        self._statsig = statsig
        self._answers = answers
        self._run = run
        self._report = report
        self._stopping = stopping
        self._logged = 0
        self._flushed = 0
        self._last_flush = time.monotonic()
        self._pause_s = _FIRST_PAUSE_S

    def play(self, events: int, rate: float) -> None:
        """Log exactly `events` events (0: until told to stop), `rate` a second (0: as fast as it goes)."""
        started = time.monotonic()
        number = 0
        while not self._stopping.is_set() and (not events or self._logged < events):
            self._visit(number, events - self._logged if events else sys.maxsize)
            number += 1
            if (
                self._logged - self._flushed >= _EVENTS_PER_FLUSH
                or time.monotonic() - self._last_flush > _FLUSH_EVERY_S
            ):
                self._flush("flushed")
            if rate:
                self._stopping.wait(max(0.0, started + self._logged / rate - time.monotonic()))
        self._flush("finished")

    def linger(self) -> None:
        """Stay until told to stop: what was not acknowledged yet is sent again meanwhile."""
        while not self._stopping.wait(_FLUSH_EVERY_S):
            self._flush("flushed")

    def _flush(self, state: Literal["flushed", "finished"]) -> None:
        failures = self._answers.failures
        self._statsig.flush_events().wait()
        self._flushed, self._last_flush = self._logged, time.monotonic()
        self._report.write(Progress(state, self._logged, self._answers.acknowledged, self._answers.given_up))
        if self._answers.failures == failures:
            self._pause_s = _FIRST_PAUSE_S
        else:
            self._stopping.wait(self._pause_s)
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _visit(self, number: int, room: int) -> None:
        who = visitor(self._run, number)
        user = StatsigUser(
            user_id=who.user_id,
            custom_ids={"stableID": who.stable_id},
            country=who.country,
            app_version=who.app_version,
            custom={"plan": who.plan},
        )
        reads = READS[:room]
        self._say(number, [who.exposure(read) for read in reads])
        group = ""
        for read in reads:
            group = self._read(number, who, user, read.kind, read.name, read.parameter) or group
        todo = actions(self._run, number, group)[: room - len(reads)]
        if todo:
            self._say(number, [action.item for action in todo])
        for action in todo:
            self._statsig.log_event(user, action.name, action.value, action.metadata)

    def _say(self, number: int, items: list[Item]) -> None:
        self._report.write(Logged(number, items))
        self._logged += len(items)

    def _read(self, number: int, who: Visitor, user: StatsigUser, kind: str, name: str, parameter: str) -> str:
        if kind == "gate":
            self._statsig.check_gate(user, name)
        elif kind == "config":
            self._statsig.get_dynamic_config(user, name)
        elif kind == "layer":
            self._statsig.get_layer(user, name).get_string(parameter, "")
        else:
            experiment = self._statsig.get_experiment(user, name)
            if name == EXPERIMENT:
                self._report.write(Arm(number, who.user_id, experiment.rule_id, experiment.group_name or ""))
                return str(experiment.group_name or "")
        return ""


def start_sdk(gateway: str, key: str, answers: Answers) -> Statsig:
    """Initialise the SDK against the gateway, config specs and events both. Raises RuntimeError without specs."""
    options = StatsigOptions()
    options.specs_url = f"{gateway}/v2/download_config_specs"
    options.log_event_url = f"{gateway}/v1/log_event"
    options.id_lists_url = f"{gateway}/v1/get_id_lists"
    options.environment = "production"
    options.output_log_level = "error"
    options.event_logging_max_queue_size = _EVENTS_PER_REQUEST
    options.disable_country_lookup = True
    options.observability_client = answers
    statsig = Statsig(key, options)
    statsig.initialize().wait()
    if EXPERIMENT not in statsig.get_experiment_list():
        raise RuntimeError(f"the SDK found no experiment {EXPERIMENT} in the config specs of {gateway}")
    return statsig


def _claim_standard_output() -> BinaryIO:
    """Return standard output for ourselves: the SDK prints its log there, which goes to standard error instead."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return pipe


def _obey(stopping: threading.Event) -> None:
    for line in sys.stdin:
        if line.strip() == "stop":
            stopping.set()
            return
    os._exit(_PARENT_IS_GONE)


def main() -> int:
    """Run the program; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m ops.demo.sdk")
    parser.add_argument("--gateway", required=True, help="base URL")
    parser.add_argument("--run", required=True, help="name of the run, part of every id")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--events", type=int, default=0, help="0: until told to stop")
    parser.add_argument("--rate", type=float, default=0, help="events a second; 0: as fast as it goes")
    parser.add_argument("--ledger", default="", help="file that gets every line too")
    arguments = parser.parse_args()
    pipe = _claim_standard_output()
    stopping = threading.Event()
    threading.Thread(target=_obey, args=(stopping,), daemon=True, name="obey").start()
    answers = Answers()
    statsig = start_sdk(arguments.gateway, os.environ[KEY_VARIABLE], answers)
    with contextlib.ExitStack() as files:
        ledger = files.enter_context(Path(arguments.ledger).open("ab", buffering=0)) if arguments.ledger else None
        report = Report(pipe, ledger)
        report.write(Progress("ready", 0))
        application = Application(statsig, answers, Run(arguments.run, arguments.seed), report, stopping)
        application.play(arguments.events, arguments.rate)
        application.linger()
        statsig.shutdown().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
