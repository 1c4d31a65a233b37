import pytest
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from support.exposures import framed

from console.answers import RefusedError
from console.live import sse
from console.live.decode import UnreadableRecordError, decode, iso_time
from console.live.filters import FIELDS, filter_from
from console.live.look import evenly
from console.live.positions import FOLLOWED, Positions, from_id, to_id
from console.live.replay import window
from ops.commands.tail import Messages

places = st.builds(TopicPartition, st.sampled_from(sorted(FOLLOWED)), st.integers(0, 50))
positions = st.dictionaries(places, st.integers(0, 2**62), min_size=1)


@given(positions)
def test_a_position_survives_the_stream_id(at: Positions):
    assert from_id(to_id(at)) == at


@pytest.mark.parametrize("text", ["", "x", "1", "1-", "-1", "1-2-3", "1-2.", "1-²", "1-٣", "1--2", "q0-1", "i-1"])
def test_what_is_no_position_is_refused(text: str):
    with pytest.raises(ValueError, match="no position"):
        from_id(text)


@given(st.sampled_from(["exposure", "tally"]), st.binary().filter(lambda data: b"\n" not in data and b"\r" not in data))
def test_a_message_is_read_as_it_was_written(event: str, data: bytes):
    messages = Messages()
    text = data.decode("latin-1")
    taken = [messages.take(line) for line in sse.message(event, data, "0-1").decode("latin-1").split("\n")]
    assert [each for each in taken if each] == ([(event, text)] if text else [])
    assert messages.last_id == "0-1"


def test_a_heartbeat_and_a_position_alone_are_no_messages():
    messages = Messages()
    lines = (sse.HEARTBEAT + sse.position("0-7")).decode().split("\n")
    assert not any(messages.take(line) for line in lines)
    assert messages.last_id == "0-7"


def test_an_exposure_is_shown_with_the_names_of_the_columns_and_without_what_is_private():
    shown = decode(framed(unit_id="u7", origin_offset=42, metadata='{"secret":1}'), partition=3, offset=9).fields
    assert shown["unit_id"] == "u7"
    assert shown["origin"] == "1/0/42/0/0"
    assert shown["record"] == {"topic": "exposures", "partition": 3, "offset": 9}
    assert len(shown["event_id"]) == 32
    assert shown["parent_event_id"] == ""
    assert shown["received_at"].endswith("Z")
    assert "user" not in shown
    assert "metadata" not in shown


def test_every_field_a_filter_looks_at_is_shown():
    shown = decode(framed(), 0, 0).fields
    assert {field for fields in FIELDS.values() for field in fields} <= shown.keys()


@pytest.mark.parametrize(
    "value", [None, b"", b"\x00", b"\x01\x00\x00\x00\x00", b"\x00\x00\x00\x00\x07abc", framed()[:40]]
)
def test_a_record_that_is_no_exposure_is_unreadable_and_nothing_worse(value: bytes | None):
    with pytest.raises(UnreadableRecordError):
        decode(value, 0, 0)


def test_a_time_that_no_calendar_holds_is_shown_as_its_number():
    assert iso_time(2**62) == f"{2**62} ms since 1970"
    assert iso_time(None) is None


@given(st.integers(-(10**13), 10**14))
def test_times_are_written_to_the_millisecond_in_utc(time_ms: int):
    text = iso_time(time_ms)
    assert text is not None
    assert text.endswith(f".{time_ms % 1000:03d}Z")


@pytest.mark.parametrize(
    ("parameters", "is_wanted"),
    [
        ([], True),
        ([("name", "checkout")], True),
        ([("name", "Checkout")], False),
        ([("name", "check*")], True),
        ([("name", "*KOU*")], True),
        ([("name", "other"), ("name", "checkout")], True),
        ([("name", "other,checkout")], True),
        ([("name", "price_test")], True),
        ([("kind", "gate")], False),
        ([("tier", "staging"), ("name", "checkout")], False),
        ([("unit", "device-1")], True),
        ([("sdk", "statsig-*")], True),
        ([("group", "[Control]")], False),
        ([("group", "Contro?")], True),
        ([("name", "")], True),
        ([("rate", "5")], True),
        ([("experiment", "checkout")], True),
        ([("experiment", "price_test")], False),
        ([("gate", "checkout")], False),
        ([("outcome", "accepted,rejected")], True),
        ([("outcome", "duplicate")], False),
        ([("tier", "*")], True),
    ],
)
def test_a_filter_wants_what_all_its_conditions_name(parameters: list[tuple[str, str]], is_wanted: bool):
    fields = decode(framed(allocated_experiment="price_test", stable_id="device-1"), 0, 0).fields
    assert filter_from(parameters).wants(fields) is is_wanted


@pytest.mark.parametrize(
    ("tier", "parameters", "is_wanted"),
    [
        ("production", [], True),
        ("", [], True),
        ("staging", [], False),
        ("staging", [("tier", "staging")], True),
        ("staging", [("tier", "*")], True),
        ("production", [("tier", "staging")], False),
    ],
)
def test_only_production_is_shown_unless_another_tier_is_asked_for(
    tier: str, parameters: list[tuple[str, str]], is_wanted: bool
):
    assert filter_from(parameters).wants(decode(framed(tier=tier), 0, 0).fields) is is_wanted


def test_an_exposure_of_a_layer_is_one_of_its_experiment():
    through_layer = decode(framed(kind="layer", name="prices", allocated_experiment="price_test"), 0, 0).fields
    assert filter_from([("experiment", "price_test")]).wants(through_layer)
    assert filter_from([("layer", "prices")]).wants(through_layer)
    assert not filter_from([("experiment", "prices")]).wants(through_layer)


def test_an_outcome_that_there_is_not_is_refused():
    with pytest.raises(RefusedError, match="no outcome"):
        filter_from([("outcome", "lost")])


def test_brackets_in_a_filter_mean_themselves():
    fields = decode(framed(name="a[b]c"), 0, 0).fields
    assert filter_from([("name", "a[b]*")]).wants(fields)


def test_a_hostile_pattern_costs_no_time():
    wanted = filter_from([("name", "*a" * 40 + "*b")])
    assert not wanted.wants(decode(framed(name="a" * 5000), 0, 0).fields)


def test_a_filter_of_too_many_values_is_refused():
    with pytest.raises(RefusedError):
        filter_from([("name", ",".join(str(number) for number in range(51)))])


@given(st.lists(st.integers()), st.integers(1, 50))
def test_a_sample_is_even_and_in_order(numbers: list[int], count_max: int):
    chosen = evenly(numbers, count_max)  # type: ignore[arg-type]
    assert len(chosen) == min(len(numbers), count_max)
    assert evenly(range(1000), 10) == list(range(0, 1000, 100))  # type: ignore[arg-type]


@given(positions, st.dictionaries(places, st.integers(0, 2**62)), st.integers(1, 1000))
def test_a_window_reads_no_more_than_asked_and_counts_what_it_leaves_out(
    until: Positions, start: Positions, records_max: int
):
    cut, left_out = window(start, until, records_max)
    wanted = sum(max(0, end - start.get(partition, end)) for partition, end in until.items())
    read = sum(until[partition] - at for partition, at in cut.items())
    assert read + left_out == wanted
    assert read <= max(records_max, 0)
    assert all(
        start.get(partition, until[partition]) <= at <= until[partition] or at == until[partition]
        for partition, at in cut.items()
    )
