"""What the doctor finds, and that it says how to mend it."""

import os
import shutil
import socket
import uuid
from pathlib import Path

import orjson
import pytest
from aiokafka import TopicPartition
from support.commands import Headrace
from support.ports import free_port_block

from ops.doctor import machine, pipeline
from ops.doctor.finding import Finding, Verdict
from ops.kafka_metadata import ClusterState, TopicState
from ops.settings import Settings
from schemas.topics import DLQ_WORKER, EVENTS_RAW, TOPICS


def _settings(folder: Path, **changes: object) -> Settings:
    first = free_port_block(8)
    ports = {"gateway_port": first, "console_port": first + 1, "kafka_port": first + 2, "admin_port_base": first + 4}
    return Settings.model_validate({"data_dir": folder, **ports, **changes})


def _verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    assert all(finding.remedy for finding in findings if finding.verdict is not Verdict.OK)
    return {finding.part: finding.verdict for finding in findings}


def _cluster(**changes: TopicState | None) -> ClusterState:
    topics = {t.name: TopicState(t.name, uuid.uuid4(), 4 if t.partitioned else 1, True) for t in TOPICS}
    return ClusterState(1, {name: state for name, state in {**topics, **changes}.items() if state is not None})


def test_free_ports_are_one_finding_and_a_taken_one_names_who_has_it_and_what_changes_it(tmp_path: Path):
    settings = _settings(tmp_path)
    [free] = machine.examine_ports(settings, machine.listener_of)
    assert free.verdict is Verdict.OK
    with socket.create_server(("127.0.0.1", settings.console_port)):
        [taken] = machine.examine_ports(settings, machine.listener_of)
    assert taken.verdict is Verdict.BAD
    assert f"process {os.getpid()} " in taken.found
    assert "HEADRACE_CONSOLE_PORT" in taken.remedy


def test_a_missing_java_is_bad_unless_the_broker_is_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    here = _verdicts(list(machine.examine_programs(_settings(tmp_path, cache_dir=tmp_path))))
    assert here == {"python": Verdict.OK, "charts": Verdict.WARN, "java": Verdict.BAD, "maven": Verdict.BAD}
    elsewhere = _settings(tmp_path, kafka_bootstrap="kafka:9092", cache_dir=tmp_path)
    assert _verdicts(list(machine.examine_programs(elsewhere))) == {"python": Verdict.OK, "charts": Verdict.WARN}


def test_a_data_folder_that_does_not_exist_yet_is_judged_by_where_it_will_be(tmp_path: Path):
    [finding] = machine.examine_data_folder(tmp_path / "a" / "b")
    assert finding.verdict is not Verdict.BAD
    assert not (tmp_path / "a").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_spill_folder_must_be_writable_and_have_the_room_that_the_gateway_may_take(tmp_path: Path):
    free_bytes = shutil.disk_usage(tmp_path).free
    [well] = machine.examine_spill_folder(tmp_path / "spill", 1)
    [little] = machine.examine_spill_folder(tmp_path / "spill", 2 * free_bytes)
    assert (well.verdict, little.verdict) == (Verdict.OK, Verdict.WARN)
    assert "HEADRACE_SPILL_MAX_BYTES" in little.remedy
    (tmp_path / "file").write_text("")
    [wrong] = machine.examine_spill_folder(tmp_path / "file" / "spill", 1)
    assert wrong.verdict is Verdict.BAD
    assert "HEADRACE_SPILL_DIR" in wrong.remedy
    assert not (tmp_path / "spill").exists()


def test_missing_topics_wrong_counts_and_lost_leaders_are_bad():
    assert _verdicts(list(pipeline.judge_topics(_cluster(), 4))) == {"topics": Verdict.OK}
    [missing] = pipeline.judge_topics(_cluster(**{DLQ_WORKER: None}), 4)
    assert DLQ_WORKER in missing.found
    assert "headrace init" in missing.remedy
    [wrong] = pipeline.judge_topics(_cluster(**{EVENTS_RAW: TopicState(EVENTS_RAW, uuid.uuid4(), 8, True)}), 4)
    assert "8 partitions, 4 are wanted" in wrong.found
    [lost] = pipeline.judge_topics(_cluster(**{EVENTS_RAW: TopicState(EVENTS_RAW, uuid.uuid4(), 4, False)}), 4)
    assert "without a leader" in lost.found


def test_lag_counts_what_is_not_committed_and_warns_when_it_is_much():
    partitions = [TopicPartition(EVENTS_RAW, number) for number in (0, 1)]
    ends = {partitions[0]: 100, partitions[1]: 6000, TopicPartition("other", 0): 9}
    [much] = pipeline.judge_lag("worker", ends, {partitions[0]: 90}, (EVENTS_RAW,))
    assert much.verdict is Verdict.WARN
    assert "6,010 records" in much.found
    [little] = pipeline.judge_lag("worker", ends, {partitions[0]: 100, partitions[1]: 6000}, (EVENTS_RAW,))
    assert little.verdict is Verdict.OK


def test_dead_letters_are_a_warning():
    assert list(pipeline.judge_dead_letters({TopicPartition(DLQ_WORKER, 0): 0})) == []
    [waiting] = pipeline.judge_dead_letters({TopicPartition(DLQ_WORKER, 0): 2, TopicPartition(DLQ_WORKER, 1): 1})
    assert (waiting.verdict, waiting.found) == (Verdict.WARN, "3 records")


def test_the_command_exits_with_1_when_something_is_bad(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    settings = _settings(tmp_path)
    for name in ("data_dir", "gateway_port", "console_port", "kafka_port", "admin_port_base"):
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("HEADRACE_SPILL_DIR", str(tmp_path / "spill"))
    headrace = Headrace(monkeypatch)
    well = headrace("doctor", "--json")
    assert well.exit_code == 0, well.stdout
    parts = {finding["part"] for finding in orjson.loads(well.stdout)}
    assert parts >= {"python", "java", "stack", "ports", "spill folder"}
    with socket.create_server(("127.0.0.1", settings.gateway_port)):
        ill = headrace("doctor")
    assert ill.exit_code == 1
    assert "HEADRACE_GATEWAY_PORT" in ill.stdout
