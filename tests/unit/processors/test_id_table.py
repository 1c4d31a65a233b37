"""The table of owners against a dict, whatever is put, replaced and removed."""

from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.id_table import NOBODY, IdTable

steps = st.lists(st.tuples(st.sampled_from(["put", "replace", "remove"]), st.integers(0, 60)), max_size=300)


def event_id(number: int) -> bytes:
    # Few prefixes, so that keys meet; whose id it is tells the claim.
    return (number % 7).to_bytes(5, "big") + number.to_bytes(11, "big")


@settings(max_examples=100)
@given(steps, st.sets(st.integers(0, 60)))
def test_it_answers_as_a_dict_does(todo: list[tuple[str, int]], filled: set[int]):
    holders = dict(enumerate(map(event_id, filled)))
    truth = {subject: number for number, subject in holders.items()}
    table = IdTable(lambda number, asked: holders[number] == asked)
    if truth:
        table.fill(b"".join(truth), np.array(list(truth.values())))
    for number, (what, which) in enumerate(todo, len(truth)):
        subject = event_id(which)
        holders[number] = subject
        if subject not in truth and what == "put":
            table.put(subject, number)
            truth[subject] = number
        elif subject in truth and what == "replace":
            table.replace(subject, number)
            truth[subject] = number
        elif subject in truth and what == "remove":
            table.remove(subject)
            del truth[subject]
    assert {event_id(which): table.get(event_id(which)) for which in range(61)} == {
        event_id(which): truth.get(event_id(which), NOBODY) for which in range(61)
    }
    assert len(table) == len(truth)
    for which in range(61):
        if table.places_of_unowned([event_id(which)]) is not None:
            assert event_id(which) not in truth


@pytest.mark.parametrize("filled", [0, 1, 12, 13, 25, 3_000, 5_000])
def test_it_grows_by_itself_and_finds_everything(filled: int):
    ids = [blake2b(b"%d" % number, digest_size=16).digest() for number in range(5_000)]
    table = IdTable(lambda number, asked: ids[number] == asked)
    if filled:
        table.fill(b"".join(ids[:filled]), np.arange(filled))
    for number, one in enumerate(ids[filled:], filled):
        assert table.places_of_unowned([one]) is not None
        table.put(one, number)
    assert [table.get(one) for one in ids] == list(range(5_000))
    assert len(table) == 5_000
