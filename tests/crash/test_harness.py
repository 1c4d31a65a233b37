"""The harness itself: a checker that finds each fault, plans that follow from their seed, links that fail as told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from crash.checker import LandedRow, Verdict, judge, lies, returns_s
from crash.nemesis import Kind, Size, plan
from crash.report import Report
from crash.tcp_proxy import Fault, Link, Trouble
from crash.workload import POISON_AT_GATEWAY, POISON_AT_WORKER, Expected, Run, Sending, Workload, read_ledger
from support.ports import free_port_block

RUN = Run("r", 1, 1_000_000)
SIZE = Size(kills=9, points=1, freezes=4, outages=2, network=9, joins=3)


@pytest.fixture
def sent(tmp_path: Path) -> tuple[Run, list[Sending], Expected]:
    """A workload of 600 events, every request of it acknowledged."""
    workload = Workload(RUN, tmp_path / "expected.jsonl")
    sendings = [*workload.next(300), *workload.next(300), *workload.rest()]
    for sending in sendings:
        workload.acknowledged(sending, 1.0, 2.0)
    workload.close()
    return RUN, sendings, read_ledger(tmp_path / "expected.jsonl")


def rows_of(run: Run, expected: Expected) -> list[LandedRow]:
    """Return the rows that a pipeline without faults lands."""
    numbers = sorted(number for number in expected.units if not run.poison_of(number))
    return [LandedRow(n, run.arm_of(n), f"r-u{run.unit_of(n)}", (1, 0, n, 0)) for n in numbers]


def poison_of(run: Run, expected: Expected) -> list[int]:
    return [number for number in expected.units if run.poison_of(number)]


def test_a_pipeline_without_faults_is_green(sent: tuple[Run, list[Sending], Expected]):
    run, _, expected = sent
    again = [number for number in poison_of(run, expected) if run.poison_of(number) == POISON_AT_GATEWAY]
    verdict = judge(run, expected, rows_of(run, expected), [*poison_of(run, expected), *again])
    assert verdict.is_green, verdict
    assert verdict.landed + verdict.dead == len(expected.units) == 600
    assert all(acknowledged == landed > 0 for acknowledged, landed in verdict.arms.values())


def faulty(sent: tuple[Run, list[Sending], Expected], fault: str) -> Verdict:
    run, _, expected = sent
    rows, dead = rows_of(run, expected), poison_of(run, expected)
    match fault:
        case "a row is missing":
            rows.pop()
        case "a dead letter is missing":
            dead.pop()
        case "a row stands there twice":
            rows.append(rows[0]._replace(origin=(1, 0, 10_000, 0)))
        case "a dead letter has two origins":
            dead.append(next(number for number in dead if run.poison_of(number) == POISON_AT_WORKER))
        case "nobody sent it":
            rows.append(rows[0]._replace(number=10_000))
        case "another arm has it":
            at = next(at for at, row in enumerate(rows) if row.arm)
            rows[at] = rows[at]._replace(arm="blue")
        case "a good event is dead":
            dead.append(rows[0].number)
        case "poison has landed":
            rows.append(rows[0]._replace(number=dead[0]))
    return judge(run, expected, rows, dead)


@pytest.mark.parametrize(
    ("fault", "found_as"),
    [
        ("a row is missing", "lost"),
        ("a dead letter is missing", "lost"),
        ("a row stands there twice", "doubled"),
        ("a dead letter has two origins", "doubled"),
        ("nobody sent it", "phantom"),
        ("another arm has it", "phantom"),
        ("a good event is dead", "phantom"),
        ("poison has landed", "phantom"),
    ],
)
def test_each_fault_is_found(sent: tuple[Run, list[Sending], Expected], fault: str, found_as: str):
    verdict = faulty(sent, fault)
    assert getattr(verdict, found_as)
    assert not verdict.is_green


def test_an_event_that_was_sent_after_anothers_acknowledgement_must_stand_behind_it(tmp_path: Path):
    workload = Workload(RUN, tmp_path / "expected.jsonl", share_of_copies=0)
    for _ in range(20):
        for sending in workload.next(100):
            workload.acknowledged(sending, 1.0, 2.0)
    workload.close()
    expected = read_ledger(tmp_path / "expected.jsonl")
    rows = rows_of(RUN, expected)
    assert judge(RUN, expected, rows, poison_of(RUN, expected)).reordered == []
    turned = [row._replace(origin=(1, 0, -row.number, 0)) for row in rows]
    assert judge(RUN, expected, turned, poison_of(RUN, expected)).reordered


def test_events_are_sent_as_often_as_was_written_down_and_never_twice_in_one_request(
    sent: tuple[Run, list[Sending], Expected],
):
    run, sendings, expected = sent
    assert all(len(set(sending.numbers)) == len(sending.numbers) for sending in sendings)
    times = [times for number, times in expected.times_sent.items()]
    assert (min(times), max(times)) == (1, 5)
    assert {run.sender_of(number) == sending.sender for sending in sendings for number in sending.numbers} == {True}


def test_a_202_to_what_was_sent_while_there_was_no_broker_is_a_lie():
    outages = [(10.0, 20.0)]
    assert lies([(9.9, 10.1), (19.9, 20.1), (21.0, 22.0)], outages) == []
    assert lies([(10.1, 19.9)], outages) == [(10.1, 19.9)]
    assert returns_s([(9.9, 10.1), (21.0, 22.0), (22.0, 23.0)], outages) == [2.0]


def test_a_report_says_which_mutant_lives():
    report = Report(7, mutants={"found": "3 lost", "missed": ""}, faults=["the mutant missed lives"])
    assert "| `found` | 3 lost |" in report.text()
    assert "| `missed` | it lives |" in report.text()
    assert "## Last run: red" in report.text()


def test_a_plan_follows_from_its_seed_and_holds_all_that_its_size_says():
    assert plan(7, SIZE) == plan(7, SIZE) != plan(8, SIZE)
    kinds = [act.kind for lane in plan(7, SIZE).values() for act in lane]
    assert [kinds.count(kind) for kind in (Kind.KILL, Kind.FREEZE, Kind.OUTAGE, Kind.NETWORK, Kind.JOIN)] == [
        9,
        4,
        2,
        9,
        3,
    ]


@pytest_asyncio.fixture
async def echoing() -> AsyncIterator[Link]:
    """A link to a server that says everything back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(1 << 16):
            writer.write(piece)
        writer.close()

    port = free_port_block(2)
    server = await asyncio.start_server(echo, "127.0.0.1", port)
    link = Link("echo", port + 1, port)
    await link.start()
    yield link
    await link.stop()
    server.close()


async def said(link: Link, content: bytes) -> bytes:
    """Say something over a new connection; return what comes back before it ends or is whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    heard = b""
    try:
        writer.write(content)
        while len(heard) < len(content) and (piece := await reader.read(1 << 16)):
            heard += piece
    except OSError:
        pass
    finally:
        writer.transport.abort()
    return heard


@pytest.mark.parametrize("trouble", [Trouble.LATENCY, Trouble.CRUMBS, Trouble.THROTTLE])
async def test_a_bad_link_changes_no_byte(echoing: Link, trouble: Trouble):
    content = bytes(range(256)) * 400
    echoing.suffer(Fault(trouble, 0.01 if trouble is Trouble.LATENCY else 10_000_000))
    assert await said(echoing, content) == content
    echoing.heal()
    assert await said(echoing, content) == content


async def test_a_link_is_reset_after_as_many_bytes_as_were_asked_for(echoing: Link):
    content = bytes(1000)
    echoing.suffer(Fault(Trouble.RESET, 300))
    assert len(await said(echoing, content)) <= 300
    assert echoing.resets == 1
    echoing.heal()
    assert await said(echoing, content) == content


async def test_a_silent_link_is_reset_when_it_is_over(echoing: Link):
    echoing.suffer(Fault(Trouble.HALF_OPEN))
    asking = asyncio.create_task(said(echoing, b"hello"))
    done, _ = await asyncio.wait([asking], timeout=0.2)
    assert not done
    echoing.heal()
    assert await asking == b""
