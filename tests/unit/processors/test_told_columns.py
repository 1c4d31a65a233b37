"""What a sender tells beside the decision: its tier, its sampling, who logged by hand, and with which user agent."""

from typing import Any

import msgspec
import orjson
import pytest

from processors.enrich import bots
from processors.enrich.bots import Bots
from processors.enrich.catalog import Enriching, Enrichment
from processors.map_event import EventMapper, RequestContext
from schemas import avro
from schemas.chunk import RequestPart
from schemas.config_history import ConfigHistory
from schemas.wire import Event

NOW_MS = 1_790_000_000_000
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def row(agent: str = "", enriching: Enriching | None = None, **event: Any) -> dict[str, Any]:
    told = {
        "eventName": "statsig::gate_exposure",
        "time": NOW_MS,
        "metadata": {"gate": "g", **event.pop("metadata", {})},
        **event,
    }
    context = RequestContext(RequestPart("p", "e", "k", "r", NOW_MS, user_agent=agent), 1, 2, 3)
    mapper = EventMapper(ConfigHistory(), enriching)
    mapped = mapper.map(msgspec.json.decode(orjson.dumps(told), type=Event), bytes(16), 0, context)
    return avro.EXPOSURE.decode(avro.unframe(mapped.value)[1])


@pytest.mark.parametrize(
    ("environment", "tier"),
    [
        ({"tier": "staging"}, "staging"),
        ({"tier": "production"}, "production"),
        (None, "production"),
        ({}, "production"),
        ({"tier": None}, "production"),
        ({"tier": ""}, "production"),
        ({"tier": 7}, "production"),
        ("staging", "production"),
    ],
)
def test_a_tier_that_is_not_told_is_production(environment: object, tier: str):
    assert row(user={"userID": "u", "statsigEnvironment": environment})["tier"] == tier


@pytest.mark.parametrize(
    ("own", "weight"),
    [
        ({"samplingRate": 10, "samplingMode": "on"}, 10.0),
        ({"samplingRate": 2.5}, 2.5),
        ({"samplingRate": None}, 1.0),
        ({"samplingRate": 0}, 1.0),
        ({"samplingRate": -3}, 1.0),
        ({"samplingRate": True}, 1.0),
        ({"samplingRate": "10"}, 1.0),
        ({}, 1.0),
        (None, 1.0),
        ([], 1.0),
    ],
)
def test_a_sampled_exposure_stands_for_as_many_as_its_rate(own: object, weight: float):
    assert row(statsigMetadata=own)["weight"] == weight


@pytest.mark.parametrize(
    ("told", "by_hand"), [("true", True), (True, True), ("false", False), (None, False), ("1", False)]
)
def test_what_was_logged_by_hand_says_so(told: object, by_hand: bool):
    assert row(metadata={"isManualExposure": told})["is_manual"] is by_hand


@pytest.mark.parametrize(
    ("of_user", "of_request", "is_bot"),
    [
        (None, GOOGLEBOT, True),
        (None, FIREFOX, False),
        (None, "", False),
        (GOOGLEBOT, "", True),
        (FIREFOX, GOOGLEBOT, False),
        ("", GOOGLEBOT, True),
        ("HeadlessChrome/126", "", True),
        ("Mozilla/5.0 (Linux; Android 14; CUBOT X70)", "", False),
        (7, "", False),
        ({"agent": GOOGLEBOT}, "", False),
    ],
)
def test_a_robot_is_tagged_and_kept(of_user: object, of_request: str, is_bot: bool):
    """A server tells the user agent of its user; of a browser it is the connection's."""
    assert row(agent=of_request, user={"userID": "u", "userAgent": of_user})["is_bot"] is is_bot


def test_robots_can_be_left_untagged():
    assert row(agent=GOOGLEBOT, enriching=Enriching(off=frozenset({Enrichment.BOTS})))["is_bot"] is False


def test_user_agents_of_any_length_and_number_take_bounded_memory():
    judged = Bots(kept=10)
    for number in range(25):
        judged.has(f"agent {number}")
    assert len(judged._judged) <= 10
    judged.has("x" * 1_000_000)
    assert all(len(agent) <= 512 for agent in judged._judged)
    assert judged.has(GOOGLEBOT + "x" * 1_000_000)


def test_the_list_of_robots_is_of_this_year():
    """An old list takes new robots for people; a newer release of the package is then due."""
    assert bots.LIST_DATE > "2026"
