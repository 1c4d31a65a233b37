"""The bench of the claims measures what it says: all ids are held, new ones are new and copies are copies."""

from bench.claims import measure_index, records


def test_every_id_is_held_and_every_figure_is_there():
    found = measure_index(ids=2_000, ids_a_chunk=10, partitions=2, seed=1)
    assert found["ids"] == 2_000
    assert set(found) == {"ids", "bytes an id", "rebuild µs", "judge and claim µs", "copy µs"}


def test_records_are_those_of_their_seed():
    assert list(records(100, 10, 5, seed=3)) == list(records(100, 10, 5, seed=3))
    assert [offset for offset, _ in records(30, 10, 5, seed=3)] == [5, 6, 7]
