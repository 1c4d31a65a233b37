"""`python -m bench.enrich`: what each enrichment costs an exposure, and what configs and links take of memory.

The same exposures are mapped with one enrichment after the other left out, in turns, and the least of
several rounds counts: on a machine that does other things too, only differences within a run mean anything.
"""

import argparse
import copy
import os
import random
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from processors.enrich.bucket import Plan, compile_plan
from processors.enrich.catalog import Enriching, Enrichment
from processors.enrich.identity import Identities
from processors.map_event import EventMapper, RequestContext
from processors.unit import Ids
from schemas import specs
from schemas.chunk import RequestPart
from schemas.config_history import ConfigHistory, ProjectConfigs, in_force, records_of_push, spec_of
from schemas.config_versions import encode, key_of
from schemas.identity_links import STABLE_ID, IdentityLink
from schemas.specs import Section
from schemas.wire import Event

Json = dict[str, Any]

_FIRST_MS: Final = 1_790_000_000_000
_STEP_MS: Final = 60_000
_ROUNDS: Final = 60
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def document_of(configs: int, version: int) -> specs.Specs:
    """Return a document of so many experiments and gates, half each, all of which change with the version."""
    demo: Json = orjson.loads(files("ops.demo").joinpath("specs.json").read_bytes())
    experiment = next(spec for spec in demo["dynamic_configs"] if spec["entity"] == "experiment")
    gate = demo["feature_gates"][0]
    made: dict[str, list[Json]] = {"feature_gates": [], "dynamic_configs": [], "layer_configs": []}
    for number in range(configs):
        section, template = ("feature_gates", gate) if number % 2 else ("dynamic_configs", experiment)
        spec = copy.deepcopy(template) | {"name": f"config_{number}", "salt": f"salt-{number}", "version": version}
        for condition in (condition for rule in spec["rules"] for condition in rule["conditions"]):
            if condition["type"] == "user_bucket":
                condition["additionalValues"] = {"salt": f"salt-{number}"}
        made[section].append(spec)
    made["feature_gates"] += [spec for spec in demo["feature_gates"] if spec["entity"] == "holdout"]
    return specs.parse(orjson.dumps({**demo, **made, "time": _FIRST_MS + version * _STEP_MS}))


def records_of(configs: int, versions: int) -> list[tuple[bytes, bytes]]:
    """Return what stands in `config.versions` after so many pushes."""
    written = ConfigHistory()
    records = []
    for version in range(1, versions + 1):
        document = document_of(configs, version)
        for record in records_of_push(written.project("p"), "p", document, document.time):
            records.append((key_of(record), encode(record)))
            written.put(record)
    return records


def registry_of(configs: int, versions: int) -> tuple[ConfigHistory, Json]:
    """Return a registry as the worker reads it, and what that took."""
    with ProcessPoolExecutor(1) as apart:  # what making them takes of memory would hide what the registry does
        records = apart.submit(records_of, configs, versions).result()
    before, began = _resident_bytes(), time.process_time()
    history = ConfigHistory()
    for key, value in records:
        history.take(key, value)
    took_s = time.process_time() - began
    size = sum(len(key) + len(value) for key, value in records)
    grown = _resident_bytes() - before
    return history, {"records": len(records), "bytes": size, "read_s": round(took_s, 2), "resident_bytes": grown}


def exposures_of(configs: ProjectConfigs, count: int, seed: int) -> list[Event]:
    """Return exposures as a core SDK with the newest specs logs them, each unit in its bucket."""
    chance = random.Random(seed)
    newest = configs.newest_ms

    def find(section: Section, name: str) -> Json | None:
        record = in_force(configs.timeline(section, name), newest)
        return spec_of(record) if record is not None and record.spec else None

    plans = [(at, plan) for at in configs.entities() if (plan := compile_plan(find, *at)) is not None]
    return [_exposure(*chance.choice(plans), f"user-{chance.randrange(10**6)}", newest) for _ in range(count)]


def with_address(event: Event) -> Event:
    """Return the event of a server that tells its users' addresses, which are cut short."""
    user = orjson.loads(bytes(event.user)) | {"ip": "203.0.113.77"}
    return msgspec.structs.replace(event, user=msgspec.Raw(orjson.dumps(user)))


def links_of(events: Sequence[Event], others: int) -> tuple[Identities, Json]:
    """Return identities that know the links of the events and of so many others, and what these take of memory."""
    identities = Identities(2 * others)
    before = _resident_bytes()
    for number in range(others):
        device = uuid.UUID(int=number).hex
        identities.learn(IdentityLink("p", "production", STABLE_ID, device, f"somebody-{number}", _FIRST_MS))
    grown = _resident_bytes() - before
    mapper, context = EventMapper(ConfigHistory(), identities=identities), _context()
    for event in events:
        for link in mapper.map(event, bytes(16), 1, context).links:
            identities.learn(link)
    return identities, {"links": others, "resident_bytes": grown, "bytes_a_link": round(grown / others)}


def _exposure(at: tuple[Section, str], plan: Plan, user: str, newest: int) -> Event:
    section, name = at
    decided = plan.decide(Ids(user, "", {}), "")
    passes = str(decided.passes).lower()
    told = {"gate": name, "gateValue": passes} if section == "gate" else {"config": name, "rulePassed": passes}
    metadata = {**told, "ruleID": decided.rule_id, "lcut": str(newest), "reason": "Network:Recognized"}
    event = {
        "eventName": f"statsig::{section}_exposure",
        "time": newest + 1,
        "user": {"userID": user, "userAgent": _AGENT, "customIDs": {"stableID": f"device-of-{user}"}},
        "metadata": metadata,
    }
    return msgspec.json.decode(orjson.dumps(event), type=Event)


def measure(history: ConfigHistory, identities: Identities, events: Sequence[Event]) -> dict[str, float]:
    """Return µs of CPU an exposure: with all enrichments, with none, and what each one adds to none of the others.

    `address` is what an exposure with an address costs beside one without, with all of them.
    """
    everything = frozenset(Enrichment)
    needs = {Enrichment.ASSIGNMENT_AUDIT: {Enrichment.CONFIG_MATCH}}
    off = {"none": everything, "all": frozenset[Enrichment](), "address": frozenset[Enrichment]()}
    off |= {name.value: everything - {name} - needs.get(name, set()) for name in Enrichment}
    mappers = {name: EventMapper(history, Enriching(off=each), identities) for name, each in off.items()}
    addressed = list(map(with_address, events))
    least = dict.fromkeys(mappers, float("inf"))
    for _ in range(_ROUNDS):
        for name, mapper in mappers.items():
            least[name] = min(least[name], _map_all(mapper, addressed if name == "address" else events))
    base = dict.fromkeys(least, least["none"]) | {"none": 0.0, "all": 0.0}
    base[Enrichment.ASSIGNMENT_AUDIT.value] = least[Enrichment.CONFIG_MATCH.value]
    base["address"] = least["all"]
    return {name: round(least[name] - base[name], 2) for name in least}


def _map_all(mapper: EventMapper, events: Sequence[Event]) -> float:
    context = _context()
    event_id, to_map = bytes(16), mapper.map
    began = time.process_time()
    for event in events:
        to_map(event, event_id, 1, context)
    return (time.process_time() - began) / len(events) * 1e6


def _context() -> RequestContext:
    received_ms = _FIRST_MS + 10**9
    return RequestContext(RequestPart("p", "production", "k", "r", received_ms), 1, 0, 1)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.enrich", description=__doc__)
    parser.add_argument("--configs", type=int, default=500)
    parser.add_argument("--versions", type=int, default=50)
    parser.add_argument("--exposures", type=int, default=3_000)
    parser.add_argument("--links", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    history, registry = registry_of(asked.configs, asked.versions)
    configs = history.project("p")
    assert configs is not None
    events = exposures_of(configs, asked.exposures, asked.seed)
    identities, links = links_of(events, asked.links)
    report = {"registry": registry, "identities": links, "cpu_us": measure(history, identities, events)}
    sys.stdout.write(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n")


if __name__ == "__main__":
    main()
