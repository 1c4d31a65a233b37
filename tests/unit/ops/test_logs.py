"""Log lines are JSON, one a line, whatever stands in them."""

import json
import subprocess
import sys


def _logged(code: str) -> list[dict[str, object]]:
    prelude = "from ops import logs\nimport logging, structlog, threading, warnings\nlogs.configure('info', 'worker')\n"
    ran = subprocess.run([sys.executable, "-c", prelude + code], capture_output=True, text=True, check=False)
    assert ran.stdout == ""
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_structlog_and_the_standard_library_write_the_same_form():
    ours, theirs = _logged("structlog.get_logger().info('ours', n=1)\nlogging.getLogger('x').warning('theirs %d', 2)")
    assert (ours["event"], ours["n"], ours["level"], ours["process"]) == ("ours", 1, "info", "worker")
    assert (theirs["event"], theirs["level"], theirs["process"]) == ("theirs 2", "warning", "worker")
    assert ours["timestamp"]


def test_what_a_stranger_sent_cannot_start_a_line_or_colour_a_terminal():
    [line] = _logged(r"structlog.get_logger().info('e', name='a\r\nb\x1b[31m', raw=b'\xff')")
    assert line["name"] == "a\r\nb\x1b[31m"


def test_an_exception_that_nobody_caught_is_a_line():
    [line] = _logged("raise ValueError('boom')")
    assert line["event"] == "uncaught_exception"
    assert "boom" in str(line["exception"])
    [line] = _logged("t = threading.Thread(target=lambda: 1 / 0, name='t1'); t.start(); t.join()")
    assert line["thread"] == "t1"
    assert "ZeroDivisionError" in str(line["exception"])


def test_a_warning_is_a_line():
    [line] = _logged("warnings.warn('careful')")
    assert "careful" in str(line["event"])


def test_a_library_that_repeats_itself_is_heard_once_in_a_while():
    lines = _logged(
        "say = logging.getLogger('aiokafka').error\n"
        "for n in range(100): say('Unable connect to %s', 'a'); say('Unable connect to %s', 'b')\n"
        "logs.time.monotonic = lambda now=logs.time.monotonic: now() + logs.REPEAT_AFTER_S\n"
        "say('Unable connect to %s', 'a')"
    )
    assert [line["event"] for line in lines] == [f"Unable connect to {host}" for host in "aba"]
