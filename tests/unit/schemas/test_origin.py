"""Origins: one form in headers, columns and order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.origin import PACKED_BYTES, Origin, RecordOrigins

origins = st.builds(
    Origin,
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
)


@given(origins)
def test_an_origin_comes_back_as_it_was_packed(origin: Origin):
    assert len(origin.pack()) == PACKED_BYTES
    assert Origin.unpack(origin.pack()) == origin


@given(origins, origins)
def test_packed_origins_are_ordered_as_the_log_is(one: Origin, other: Origin):
    assert (one.pack() < other.pack()) == (one < other)


@given(origins)
def test_packing_by_the_record_gives_the_same_bytes(origin: Origin):
    log, partition, offset, index, part = origin
    assert RecordOrigins(log, partition, offset).pack(index, part) == origin.pack()


@pytest.mark.parametrize("packed", [b"", bytes(PACKED_BYTES - 1), bytes(PACKED_BYTES + 1)])
def test_bytes_of_another_length_are_no_origin(packed: bytes):
    with pytest.raises(ValueError, match="a packed origin has 19 bytes"):
        Origin.unpack(packed)
