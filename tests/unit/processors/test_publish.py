"""A flight holds every record that was added to it."""

import subprocess
import sys

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatch

from processors.publish import Flight

BATCH_BYTES = 1_000


def flown() -> list[tuple[str, bytes]]:
    """Return what is in the batches of a flight to which three large records and a small one were added."""
    flight = Flight(lambda: BatchBuilder(BATCH_BYTES, 0))
    for number in range(3):
        flight.add("t", 0, b"k", b"%d" % number * BATCH_BYTES, [("origin", b"%d" % number)])
    flight.add("t", 0, b"k", b"3")
    found = []
    for batch in flight.batches["t", 0]:
        found += [(dict(record.headers), record.value) for record in DefaultRecordBatch(bytes(batch._build()))]
    return [(headers.get("origin", b"").decode(), value[:1]) for headers, value in found]


EXPECTED = [("0", b"0"), ("1", b"1"), ("2", b"2"), ("", b"3")]


def test_records_that_are_larger_than_a_batch_are_taken_as_well():
    assert flown() == EXPECTED


def test_no_record_hangs_on_an_assertion():
    """An operator may run Python with -O, which leaves assertions out."""
    ran = subprocess.run([sys.executable, "-O", __file__], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == repr(EXPECTED)


if __name__ == "__main__":
    print(flown())
