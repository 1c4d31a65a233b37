"""`python -m bench.health`: what the health of an experiment costs, over many exposures of one experiment.

Exposures are made in the embedded engine: three arms, some SDKs and countries, days of receipt one after the
other. Told are the making of each day's rollups and the answers of the API.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from pathlib import Path

import httpx
import orjson

from console.config import ConsoleConfig
from console.console import Console
from processors.rollups.roll import turn
from schemas import migrations
from schemas.kafka import KafkaConnection
from schemas.metrics import ConsoleMetrics
from schemas.store import StoreAddress

_FIRST_DAY = "2026-01-01"
_BLOCK = 1_000_000

_EXPOSURES = """
    INSERT INTO exposures (event_id_bytes, origin_index, origin_part, origin_log, origin_partition, origin_offset,
        project, environment, key_id, request_id, received_at, sdk_type, sdk_version, session_id, tier, event_time,
        event_time_ms, corrected_time, time_flag, lateness_ms, unit_type, unit_id, user_id, country, weight,
        kind, name, rule_id, group_name, config_version, config_match, assignment)
    WITH cityHash64(number) % {units:UInt64} AS unit, cityHash64(unit, 1) % 3 AS arm,
        toDateTime64({day:Date}, 3, 'UTC') + toIntervalMillisecond(number % 86400000) AS moment
    SELECT reinterpretAsFixedString(sipHash128(number)), 0, 0, 1, number % 4, number,
        'default', 'production', 'k', toString(intDiv(number, 50)), moment, ['python', 'node', 'js'][1 + unit % 3],
        toString(unit % 5), '', 'production', moment, 0, moment - 0.1, 'ok', 100 * (1 + number % 50), 'userID',
        concat('user-', toString(unit)), concat('user-', toString(unit)), ['DE', 'US', 'FR', 'JP'][1 + unit % 4], 1.0,
        'experiment', 'checkout', concat('rule_', toString(arm)), ['A', 'B', 'C'][1 + arm], '7', 'exact', 'match'
    FROM numbers({start:UInt64}, {count:UInt64})
"""
_CONFIG = {
    "rules": [
        {
            "id": f"rule_{number}",
            "groupName": name,
            "passPercentage": 100,
            "isExperimentGroup": True,
            "conditions": [
                {"type": "user_bucket", "operator": "lt", "targetValue": bound, "additionalValues": {"salt": "s"}}
            ],
        }
        for number, (name, bound) in enumerate((("A", 333), ("B", 667), ("C", 1000)))
    ]
}


def _line(what: str, seconds: float, more: str = "") -> None:
    print(f"{what:<44} {seconds:8.2f} s  {more}", flush=True)


async def _ask(address: StoreAddress) -> None:
    console = Console(ConsoleConfig(KafkaConnection("127.0.0.1:1"), address), ConsoleMetrics())
    transport = httpx.ASGITransport(app=console.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        for path in ("health", "health", "users-and-checks?window=400d"):
            await asyncio.sleep(6)  # longer than an answer is shared
            began = time.perf_counter()
            answer = await client.get(f"/api/experiments/checkout/{path}")
            took = time.perf_counter() - began
            body = answer.json()
            _line(f"GET …/{path}", took, f"{body.get('light', '')} {len(answer.content):,} bytes")
    await console.stop()


def main() -> None:
    """Make, roll up, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exposures", type=int, default=10_000_000)
    parser.add_argument("--units", type=int, default=3_000_000)
    parser.add_argument("--days", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        address = StoreAddress(path=Path(folder) / "store")
        client = address.connect()
        migrations.apply(client)
        config = {
            "project": "default", "section": "config", "kind": "experiment", "name": "checkout", "version": "7",
            "time": "1970-01-01 00:00:00", "spec": orjson.dumps(_CONFIG).decode(),
        }  # fmt: skip
        client.raw_insert(
            "config_versions", column_names=list(config), insert_block=orjson.dumps(config), fmt="JSONEachRow"
        )
        began = time.perf_counter()
        a_day = given.exposures // given.days
        for day in range(given.days):
            date = client.query(f"SELECT toString(toDate('{_FIRST_DAY}') + {day})").result_rows[0][0]
            for start in range(0, a_day, _BLOCK):
                count = min(_BLOCK, a_day - start)
                numbers = {"units": given.units, "day": date, "start": day * a_day + start, "count": count}
                client.command(_EXPOSURES, parameters=numbers)
        _line(f"{given.exposures:,} exposures made", time.perf_counter() - began)
        while True:
            began = time.perf_counter()
            made = turn(client)
            if made is None:
                _line("nothing to make", time.perf_counter() - began)
                break
            _line(f"rollups of {made} ({a_day:,} exposures)", time.perf_counter() - began)
        asyncio.run(_ask(address))
        client.close()
    print(f"largest resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MiB")


if __name__ == "__main__":
    main()
