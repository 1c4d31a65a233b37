"""The hook that makes a skipped test a failure in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_TESTS = """
import pytest

def test_skips_itself():
    pytest.skip("no Node here")

@pytest.mark.xfail(strict=True)
def test_fails_as_expected():
    assert False

def test_passes():
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ci", "outcome"), [("true", "1 failed, 1 passed, 1 xfailed"), ("", "1 passed, 1 skipped, 1 xfailed")]
)
def test_a_skipped_test_has_failed_in_ci_and_only_there(tmp_path: Path, ci: str, outcome: str):
    (tmp_path / "test_some.py").write_text(_TESTS)
    project = Path(__file__).parents[3]
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider"]
    command += ["-c", str(project / "pyproject.toml"), f"--rootdir={tmp_path}", str(tmp_path)]
    ran = subprocess.run(command, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False)
    assert outcome in ran.stdout
    assert ("skipped, which CI does not allow" in ran.stdout) is bool(ci)
