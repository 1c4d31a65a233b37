"""How fast dead letters are replayed: writes some into `dlq.worker` of a stack that runs, and replays them.

    HEADRACE_… python -m bench.replay --events 200000

Use a stack that is thrown away: the letters' origins are made up, so its ledger will say so.
"""

import argparse
import asyncio
import os
import time

import httpx
import orjson
from aiokafka import AIOKafkaProducer

from ops.dlq.choose import Choice
from ops.dlq.landed import Store
from ops.dlq.replay import Order, Replay, forecast
from ops.dlq.settle import outcome_of, wait_until_passed
from ops.settings import Settings, load
from schemas.dead_letter import DeadLetter
from schemas.ids import EventIds, partition_of
from schemas.kafka import PRODUCER
from schemas.origin import Origin
from schemas.reasons import Reason, Stage
from schemas.topics import DLQ_WORKER


async def write(settings: Settings, events: int, project: str) -> None:
    """Append letters of events that succeed now, each with a request of its own."""
    now_ms = int(time.time() * 1000)
    producer = AIOKafkaProducer(**settings.kafka.client_settings(), **PRODUCER, linger_ms=50, max_batch_size=1 << 20)
    await producer.start()
    partitions = len(await producer.partitions_for(DLQ_WORKER))
    first_offset = time.time_ns()
    ids = EventIds(project, "production", "", "r")
    sent = []
    for number in range(events):
        key = f"user-{number % 100_000}"
        user = {"userID": key, "country": "DE", "statsigEnvironment": {"tier": "production"}}
        metadata = {"config": f"experiment-{number % 20}", "ruleID": f"arm-{number % 3}", "rulePassed": "true"}
        fields = {
            "eventName": "statsig::config_exposure",
            "user": user,
            "time": now_ms,
            "metadata": metadata,
            "n": number,
        }
        event = orjson.dumps(fields)
        partition = partition_of(key.encode(), partitions)
        sender = {"sdkType": "py-server", "sdkVersion": "0.72.1", "sessionID": f"session-{number}"}
        request = {
            "project": project, "environment": "production", "key_id": "secret-1", "request_id": f"request-{number}",
            "received_at": now_ms, "client_time": now_ms, "statsigMetadata": sender,
        }  # fmt: skip
        origin = Origin(1, partition, first_offset + number, 0)
        letter = DeadLetter(
            Stage.WORKER, Reason.UNEXPECTED_ERROR, "KeyError('x')", event, now_ms, origin,
            event_id=ids.of(event, 0, has_time=True), request=orjson.dumps(request), partition_key=key.encode(),
            chunk_headers={"chunk": b"1", "n": b"50"}, project=project, environment="production",
            event_name="statsig::config_exposure", received_at=now_ms,
        )  # fmt: skip
        sent.append(await producer.send(DLQ_WORKER, letter.encode(), key=origin.pack(), partition=partition))
    await asyncio.gather(*sent)
    await producer.stop()


async def measure(events: int) -> None:
    """Write, forecast, replay, and replay again; print what each took."""
    settings = load()
    project = f"bench-{os.getpid()}"
    began = time.perf_counter()
    await write(settings, events, project)
    print(f"wrote {events:,} letters in {time.perf_counter() - began:.1f} s")
    store = Store(settings)
    order = Order(Choice(projects=(project,)))
    for what in ("forecast", "replay", "replay again"):
        began, cpu = time.perf_counter(), time.process_time()
        if what == "forecast":
            found = await forecast(settings.kafka, store, order, lambda *_: None)
            said = ", ".join(f"{count:,} {prediction.fate.value}" for (_, prediction), count in found.counts.items())
        else:
            work = Replay(settings.kafka, store, order)
            record = await work.run(lambda *_: None)
            said = f"{record.sent:,} sent, passed over {record.passed_over}"
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        print(
            f"{what}: {took:.1f} s, {events / took:,.0f} a second, {cpu / events * 1e6:.1f} µs of CPU a letter: {said}"
        )
        if what != "forecast":
            await wait_until_passed(settings.kafka, store, lambda _: None)
            took = time.perf_counter() - began
            outcome = await outcome_of(store, record.id, work.event_ids, is_resumed=False)
            print(f"  and {outcome} after {took:.1f} s, {events / took:,.0f} a second")
    store.close()


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    try:
        asyncio.run(measure(parser.parse_args().events))
    except httpx.TransportError as error:
        raise SystemExit(f"the console does not answer: {error!r}") from error


if __name__ == "__main__":
    main()
