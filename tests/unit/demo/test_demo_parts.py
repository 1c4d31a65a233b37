"""The demo's smaller parts: its key, the SDK's environment, the summary, counters."""

import stat
from pathlib import Path

import pytest

from ops.demo.pipeline import counter
from ops.demo.plan import Item, Run
from ops.demo.program import environment
from ops.demo.push import KEY_FILE, demo_key
from ops.demo.run import new_ledger
from ops.demo.sdk import KEY_VARIABLE
from ops.demo.summary import Summary, named
from ops.demo.watch import message_data

EXACT = Summary("r", 10, 10, 0, 0, 1, 1.5, 2.0, {"Control": 3})


def test_the_demo_key_of_a_data_folder_stays_the_same_and_is_its_owners_alone(tmp_path: Path):
    key = demo_key(tmp_path / "data")
    assert key.startswith("secret-")
    assert demo_key(tmp_path / "data") == key
    assert demo_key(tmp_path / "other") != key
    assert stat.S_IMODE((tmp_path / "data" / KEY_FILE).stat().st_mode) == 0o600


def test_a_key_file_that_a_kill_left_empty_is_made_anew(tmp_path: Path):
    (tmp_path / KEY_FILE).touch()
    assert demo_key(tmp_path).startswith("secret-")


def test_the_sdk_has_no_way_off_this_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "*")
    variables = environment("secret-key")
    assert {variables[name] for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY")} == {
        "http://127.0.0.1:9"
    }
    assert variables["NO_PROXY"] == variables["no_proxy"] == "127.0.0.1"
    assert variables[KEY_VARIABLE] == "secret-key"


def test_a_summary_is_exact_only_when_nothing_at_all_is_wrong():
    assert EXACT.is_exact
    for wrong in (
        {"landed": 9},
        {"missing": ["x"]},
        {"doubled": ["x"]},
        {"strange": ["x"]},
        {"wrong_arm": ["x"]},
        {"trouble": "the SDK gave up"},
    ):
        assert not Summary(**{**vars(EXACT), **wrong}).is_exact


def test_the_summary_for_machines_has_the_names_that_were_promised():
    promised = "sent landed duplicates dead internal seconds_to_first_queryable seconds per_arm missing doubled"
    assert set(promised.split()) <= set(EXACT.as_json())


def test_ten_wrong_events_are_named():
    items = [Item("exposures", "gate", f"u{number}") for number in range(25)]
    assert named(items)[0] == "exposures gate u0"
    assert len(named(items)) == 10


def test_a_counter_is_summed_over_its_labels():
    text = '# TYPE x_total counter\nx_total{a="1"} 2.0\nx_total{a="2"} 3.0\ny_total 7.0\n'
    assert counter(text, "x_total") == 5
    assert counter(text, "z_total") == 0


def test_ledgers_of_the_newest_runs_are_kept(tmp_path: Path):
    for number in range(30):
        new_ledger(tmp_path, Run(f"run{number:02d}")).touch()
    assert len(list((tmp_path / "demo").glob("*.jsonl"))) == 10


@pytest.mark.parametrize("line", ["event: exposure", ": still here", "data: not json", "data: [1]", ""])
def test_lines_of_the_stream_without_an_object_are_passed_over(line: str):
    assert message_data(line) is None


def test_an_exposure_is_read_from_the_stream():
    assert message_data('data: {"unit_id":"u1"}') == {"unit_id": "u1"}
