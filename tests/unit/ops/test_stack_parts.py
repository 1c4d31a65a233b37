"""What a stack rests on: process identity, the data folder's lock, the programs it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.settings import Settings
from ops.stack import jars, pids, record, toolchain
from ops.stack.errors import InUseError, MissingPartError
from ops.stack.last_words import last_words
from ops.stack.local import environment_of, processes_for
from ops.stack.pids import ProcessId, identify


def test_a_number_that_was_given_to_another_process_is_not_the_old_one():
    me = identify(os.getpid())
    assert me.is_alive
    recycled = ProcessId(me.pid, f"{me.started_at}0")
    assert not recycled.is_alive
    assert not pids.end(recycled, grace_s=0)
    assert me.is_alive


def test_a_process_that_ended_and_was_not_waited_for_is_not_alive():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = identify(child.pid)
    assert process.is_alive
    child.communicate(b"\n")
    assert not process.is_alive


def test_a_leftover_is_ended_and_killed_if_it_does_not_listen():
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    process = identify(child.pid)
    assert pids.end(process, grace_s=0.1)
    assert not process.is_alive
    child.communicate()


def test_a_data_folder_serves_one_stack_and_names_its_holder(tmp_path: Path):
    with record.DataFolder(tmp_path):
        with pytest.raises(InUseError, match=str(os.getpid())) as refused, record.DataFolder(tmp_path):
            pass
        assert "HEADRACE_DATA_DIR" in refused.value.remedy
    with record.DataFolder(tmp_path):
        pass


def test_what_a_stack_writes_down_can_be_read_back(tmp_path: Path):
    assert record.read(tmp_path) is None
    child = ProcessId(4, "boot:5")
    record.write(tmp_path, {"broker": child})
    found = record.read(tmp_path)
    assert found is not None
    assert found.id == identify(os.getpid())
    assert {name: process.id for name, process in found.children.items()} == {"broker": child}
    record.path_of(tmp_path).write_text("{")
    assert record.read(tmp_path) is None


@pytest.mark.parametrize(
    ("version", "major"), [("1.8.0_392", 8), ("11.0.2", 11), ("17.0.15", 17), ("21-ea", 21), ("25", 25), ("x", 0)]
)
def test_the_major_version_of_java(version: str, major: int):
    assert toolchain.java_major(version) == major


def test_a_missing_java_or_maven_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingPartError, match="Java is not installed") as refused:
        toolchain.find_java()
    assert "apt install" in refused.value.remedy
    with pytest.raises(MissingPartError, match="Maven is not installed"):
        toolchain.find_maven()


def test_a_java_that_is_too_old_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingPartError, match=r"Java 11\.0\.2"):
        toolchain.find_java()


async def test_maven_that_fails_is_quoted_and_leaves_no_half_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    maven = tmp_path / "mvn"
    maven.write_text(
        "#!/bin/sh\necho 'Apache Maven 3.9.9'\ncase $* in *-version*) exit 0;; esac\necho no route >&2; exit 1\n"
    )
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(jars.StackError, match="no route"):
        await jars.resolve_jars(tmp_path / "cache")
    assert not jars.jars_dir(tmp_path / "cache").exists()


def test_a_child_gets_the_very_settings_of_its_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    settings = Settings(
        data_dir=tmp_path, partitions=7, alias_paths=["/a", "/b"], linger_ms=1.5, kafka_sasl_password="p"
    )
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_the_embedded_engine_makes_lander_and_console_one_process(tmp_path: Path):
    assert processes_for(Settings(data_dir=tmp_path)) == ("gateway", "worker", "store")
    assert processes_for(Settings(clickhouse="http://127.0.0.1:8123")) == ("gateway", "worker", "lander", "console")


def test_the_last_words_of_a_child_are_its_grave_ones_since_it_began(tmp_path: Path):
    log = tmp_path / "init.log"
    log.write_text('{"event":"old","level":"error"}\n')
    began = log.stat().st_size
    with log.open("a") as handle:
        handle.write('{"event":"migration_applied","level":"info"}\n')
        handle.write('{"event":"init_failed","level":"critical","error":"no space","remedy":"Make room."}\n')
    assert last_words(log, began) == ["init failed: no space: Make room."]


def test_the_last_words_of_a_program_that_is_not_ours_are_its_last_lines(tmp_path: Path):
    log = tmp_path / "broker.log"
    log.write_text("a\nb\n\nc\n")
    assert last_words(log, lines=2) == ["b", "c"]
    log.write_text("2026-11-21 ERROR KafkaServer the disk is full\n  at java.lang.Thread\n")
    assert last_words(log) == ["2026-11-21 ERROR KafkaServer the disk is full"]
    assert last_words(tmp_path / "none.log") == []


def test_a_data_folder_is_for_its_owner_only(tmp_path: Path):
    with record.DataFolder(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_folders_may_be_below_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings(data_dir=Path("~/data"), cache_dir=Path("~/cache"))
    assert (settings.data_dir, settings.cache_dir) == (tmp_path / "data", tmp_path / "cache")
