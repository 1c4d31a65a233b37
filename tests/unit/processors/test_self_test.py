"""The worker's start-up self-test: with the measures it passes, and without any one of them it refuses."""

from collections.abc import Callable
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from support.stock_faust import measured_app

from processors import faust_measures
from processors.self_test import SelfTestError, run_self_test

Consumer = faust_measures.GaplessConsumer
Thread = faust_measures.SnapshotConsumerThread
Listener = faust_measures.RebalanceListener


async def test_the_installed_faust_passes():
    await run_self_test(measured_app)


def _acknowledges_whatever_it_is_told(self: Any, message: Any) -> bool:
    driver.Consumer.ack(self, message)
    return True


@pytest.mark.parametrize(
    ("undo", "law"),
    [
        (lambda patch: patch.setattr(Consumer, "_add_gap", driver.Consumer._add_gap), "never seen are not committed"),
        (lambda patch: patch.setattr(Consumer, "ack", driver.Consumer.ack), "nothing but the worker acknowledges"),
        (
            lambda patch: patch.setattr(Consumer, "acknowledge", _acknowledges_whatever_it_is_told),
            "an event of an earlier generation is not acknowledged",
        ),
        (
            lambda patch: patch.setattr(Thread, "_fetch_records", driver.AIOKafkaConsumerThread._fetch_records),
            "an empty set of partitions fetches nothing",
        ),
        (
            lambda patch: patch.setattr(
                Listener, "on_partitions_revoked", driver.ConsumerRebalanceListener.on_partitions_revoked
            ),
            "nothing is current once partitions are revoked",
        ),
        (lambda patch: patch.setattr(driver.Consumer, "_drain_messages", None), "it could not even be tried"),
    ],
    ids=["gaps", "acknowledgements", "generations", "fetches", "revocation", "another Faust"],
)
async def test_it_refuses_a_faust_that_behaves_otherwise_and_says_what_is_different(
    undo: Callable[[pytest.MonkeyPatch], None], law: str, monkeypatch: pytest.MonkeyPatch
):
    undo(monkeypatch)
    with pytest.raises(SelfTestError, match=law) as refusal:
        await run_self_test(measured_app)
    assert "faust 0.15.3 does not behave as" in str(refusal.value)
