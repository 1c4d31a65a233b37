"""The page in a real browser: what it shows is the truth, it cannot be led astray, and it mends itself."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chromium import CHROMIUM, Page, browser
from support.console_process import RunningConsole, running_console
from support.console_truth import HOSTILE_NAME, arms
from support.exposures import exposure
from support.page_checks import AXE, check_narrow, check_readable
from support.ports import free_port_block

from schemas.kafka import KafkaConnection

Expose = Callable[..., None]

_LISTED = "document.querySelectorAll('.entity').length > 3"
_LIVE = "document.querySelector('#live-state')?.dataset.state === 'live'"
_LOADED = {
    "/": "document.querySelector('[data-station=store] b').textContent.includes('603')"
    " && document.querySelectorAll('.cards [data-state=shown]').length === 3",
    "/experiments": _LISTED,
    "/experiments/checkout": f"document.querySelectorAll('.bars li').length >= 3 && {_LIVE}",
    "/experiments/search?kind=gate": f"document.querySelectorAll('.bars li').length === 2 && {_LIVE}",
    "/live": _LIVE,
    "/events": "document.querySelector('#event')",
    "/dead-letters": "document.querySelector('#letters .empty')",
    "/sql": "document.querySelector('#query').value !== ''",
}
_TRACE_OF_MARKUP = "document.querySelector('.view img') !== null"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    """One browser for all tests here."""
    with browser() as page:
        yield page


@pytest.fixture
def page(tab: Page, console: RunningConsole) -> Iterator[Page]:
    """A browser whose complaints fail the test, as do addresses elsewhere."""
    tab.look(1440, 900)
    tab.open("about:blank")
    tab.complaints.clear()
    tab.requests.clear()
    yield tab
    assert tab.complaints == []
    assert {re.match(r"https?://[^/]+", each)[0] for each in tab.requests} == {console.address}  # type: ignore[index]


@pytest.fixture
def go(page: Page, console: RunningConsole) -> Callable[[str], Page]:
    """Go to a view, and wait until it shows what it is for."""

    def go(view: str) -> Page:
        page.open(console.address + view)
        page.wait_for(_LOADED[view])
        return page

    return go


Go = Callable[[str], Page]


def _bars(page: Page, name: str) -> dict[str, int]:
    cards = "[...document.querySelectorAll('.entity')]"
    card = f"{cards}.find((each) => each.querySelector('h2').textContent === {name!r})"
    row = "[each.querySelector('.arm').textContent, each.querySelector('.units').textContent]"
    rows: list[list[str]] = page.run(f"[...{card}.querySelectorAll('.bars li')].map((each) => {row})")
    return {arm: int(units.replace(",", "")) for arm, units in rows}


def test_the_bars_are_the_truth(go: Go, ask: Callable[..., Any]):
    page = go("/experiments")
    assert _bars(page, "checkout") == {arm: units for arm, (units, _) in arms("checkout").items()}
    passed = {"true": "pass", "false": "fail"}
    assert _bars(page, "search") == {passed[arm]: units for arm, (units, _) in arms("search", "value").items()}
    counted = ask("SELECT group_name, uniqExact(unit_id) FROM exposures WHERE name = 'checkout' GROUP BY 1").json()
    assert _bars(page, "checkout") == dict(counted["rows"])


def test_the_overview_says_what_sql_says(go: Go, ask: Callable[..., Any]):
    page = go("/")
    (rows,) = ask("SELECT count() FROM exposures").json()["rows"][0]
    assert page.run("document.querySelector('[data-station=store] b').title") == f"{rows:,}"
    assert "No event is dead" in page.run("document.querySelector('.cards').innerText")
    assert "accepted in the last hour" in page.run("document.querySelector('.cards').innerText")


def test_every_view_is_reached_by_its_link_by_the_back_button_and_by_its_address(go: Go, console: RunningConsole):
    page = go("/")
    for view in ("experiments", "live", "events", "dead-letters", "sql"):
        page.run(f"document.querySelector('.sections a[href=\"/{view}\"]').click()")
        page.wait_for(_LOADED[f"/{view}"])
        assert page.run("location.pathname") == f"/{view}"
        assert page.run("document.querySelector('.sections [aria-current=page]').pathname") == f"/{view}"
        assert page.run("document.activeElement.tagName") == "H1"
    page.run("history.back()")
    page.wait_for(_LOADED["/dead-letters"])
    page.open(f"{console.address}/experiments/checkout")
    page.wait_for(_LOADED["/experiments/checkout"])
    assert page.run("document.title").startswith("checkout")


def test_an_experiment_opens_from_the_list_to_its_arms_and_details(go: Go):
    page = go("/experiments")
    page.run("[...document.querySelectorAll('.entity a')].find((each) => each.textContent === 'checkout').click()")
    page.wait_for(_LOADED["/experiments/checkout"])
    details = page.run("document.querySelector('.facts-of').innerText")
    assert "1 units" in details
    assert "statsig-python-core 0.24.0: 300" in details


def test_an_unknown_experiment_is_told_with_the_names_that_are_near(page: Page, console: RunningConsole):
    page.open(f"{console.address}/experiments/chekout")
    page.wait_for("document.querySelector('.view .empty a')?.textContent === 'checkout'")
    page.forgive("404")
    page.run("document.querySelector('.view .empty a').click()")
    page.wait_for(_LOADED["/experiments/checkout"])


def test_an_address_of_nothing_leads_on(page: Page, console: RunningConsole):
    page.open(f"{console.address}/events/a/b/c")
    page.wait_for("document.querySelector('h1').textContent === 'No such page'")


def test_an_exposure_appears_as_it_happens(go: Go, expose: Expose):
    page = go("/live")
    page.run("(each => { each.value = '*'; each.dispatchEvent(new Event('change', {bubbles: true})); })"
             "(document.querySelector('#filter-tier'))")  # fmt: skip
    page.wait_for("location.search === '?tier=*' && " + _LIVE)
    expose({"name": "seen_live", "unit_id": "unit-of-the-page", "group_name": "Blue", "tier": "staging"})
    page.wait_for("document.querySelector('.rows li b')?.textContent === 'seen_live'")
    row = page.run("document.querySelector('.rows li').innerText")
    assert "Blue" in row
    assert "unit-of-the-page" in row
    assert "staging" in row
    page.run("document.querySelector('.rows summary').click()")
    assert "1/0/0/0/0" in page.wait_for("document.querySelector('.rows .facts')?.innerText")


def test_an_experiment_shows_its_own_exposures_live(go: Go, expose: Expose):
    page = go("/experiments/checkout")
    expose({"name": "another"}, {"name": "checkout", "unit_id": "one-more"})
    page.wait_for("document.querySelector('.rows .unit')?.textContent === 'one-more'")
    names = page.run("[...document.querySelectorAll('.rows b')].map((each) => each.textContent)")
    assert set(names) == {"checkout"}


def test_the_stream_pauses_and_resumes_by_a_key_and_a_filter_narrows_it(go: Go, expose: Expose):
    page = go("/live")
    page.run("document.body.focus()")
    page.press("p", "KeyP", "p")
    page.wait_for("document.querySelector('#live-state').textContent === 'Paused'")
    expose(*[{"name": "while_paused", "origin_offset": number} for number in range(5)])
    page.wait_for("document.querySelector('#pause').textContent === 'Resume (5)'")
    shown = "[...document.querySelectorAll('.rows b')].filter((each) => each.textContent === 'while_paused').length"
    assert page.run(shown) == 0
    page.press("p", "KeyP", "p")
    page.wait_for(f"{shown} === 5")
    page.press("/", "Slash", "/")
    page.wait_for("document.activeElement.id === 'filter-name'")
    page.type("only_this")
    page.wait_for("document.querySelector('#live-empty strong')?.textContent === 'Nothing matches yet'")
    expose({"name": "not_that"}, {"name": "only_this_one"})
    page.wait_for("document.querySelector('.rows li b')?.textContent === 'only_this_one'")
    assert page.run("document.querySelectorAll('.rows li').length") == 1


def test_an_event_is_followed_through_its_hops(go: Go, ask: Callable[..., Any]):
    page = go("/events")
    (event_id,) = ask("SELECT event_id FROM exposures WHERE name = 'checkout' AND unit_id = 'u0007'").json()["rows"][0]
    page.run("document.querySelector('#event').focus()")
    page.type(event_id)
    page.press("Enter", "Enter", "\r")
    page.wait_for("document.querySelectorAll('.hop').length === 3")
    assert page.run("location.pathname") == f"/events/{event_id}"
    hops = page.run("[...document.querySelectorAll('.hop strong')].map((each) => each.textContent)")
    assert hops == ["Accepted", "Enriched", "Landed"]
    page.run("document.querySelector('#event').value = 'nobody'; document.querySelector('.lookup').requestSubmit()")
    page.wait_for("document.querySelector('#events strong')?.textContent === 'Nothing is known of it'")
    page.forgive("404")


def test_a_dry_run_says_what_a_replay_would_do_or_why_not(go: Go):
    page = go("/dead-letters")
    page.run("document.querySelector('#reason').value = 'no_such_reason'; document.querySelector('#rehearse').click()")
    page.wait_for("document.querySelector('#forecast').innerText.includes('no reason')")
    page.forgive("400")
    page.run("document.querySelector('#reason').value = 'invalid_time'; document.querySelector('#rehearse').click()")
    page.wait_for(
        "document.querySelector('#forecast code')?.textContent === 'headrace dlq replay --reason invalid_time'"
    )


def test_hostile_names_are_shown_as_text(go: Go, expose: Expose):
    page = go("/live")
    expose({"name": HOSTILE_NAME, "unit_id": HOSTILE_NAME, "group_name": HOSTILE_NAME, "sdk_type": HOSTILE_NAME})
    page.wait_for("[...document.querySelectorAll('.rows b')].some((each) => each.textContent.startsWith('<img'))")
    page.run("document.querySelector('.rows summary').click()")
    assert page.run(_TRACE_OF_MARKUP) is False
    page = go("/experiments")
    page.run("[...document.querySelectorAll('.entity a')].find((each) => each.textContent.startsWith('<img')).click()")
    page.wait_for("document.querySelector('h1').textContent.startsWith('<img') && document.querySelector('.bars li')")
    assert page.run(_TRACE_OF_MARKUP) is False
    page = go("/sql")
    page.run("document.querySelector('#query').value = 'SELECT name FROM exposures WHERE name LIKE \\'<img%\\''")
    page.run("document.querySelector('#sql-form').requestSubmit()")
    page.wait_for("document.querySelector('#result td')?.textContent.startsWith('<img')")
    assert page.run(_TRACE_OF_MARKUP) is False


def test_sql_is_answered_as_a_table_and_refused_with_a_remedy(go: Go):
    page = go("/sql")
    query = "SELECT 18446744073709551615 AS big, NULL AS none, [1, 2] AS list"
    page.run(f"document.querySelector('#query').value = {query!r}")
    page.run("document.querySelector('#sql-form').requestSubmit()")
    page.wait_for("document.querySelector('#result tbody')")
    cells = page.run("[...document.querySelectorAll('#result td')].map((each) => each.textContent)")
    assert cells == ["18446744073709551615", "NULL", "[1,2]"]
    page.run("document.querySelector('#query').value = 'DROP TABLE exposures'")
    page.run("document.querySelector('#sql-form').requestSubmit()")
    page.wait_for("!document.querySelector('#sql-error').hidden")
    assert "only reads" in page.run("document.querySelector('#sql-error').innerText")
    assert page.run("document.querySelector('#result').hidden")
    page.forgive("403")  # Chromium reports every refusal


def test_every_example_query_runs(go: Go):
    page = go("/sql")
    for number in range(page.run("document.querySelectorAll('#examples button').length")):
        page.run("document.querySelector('#sql-state').textContent = ''")
        page.run(f"document.querySelectorAll('#examples button')[{number}].click()")
        page.wait_for("/rows? in/.test(document.querySelector('#sql-state').textContent)")
        assert page.run("document.querySelector('#sql-error').hidden")


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is missing: tests/install-parts")
@pytest.mark.parametrize("view", _LOADED)
def test_every_view_can_be_read_in_light_and_in_dark_and_used_without_eyes(go: Go, view: str):
    check_readable(go(view))


@pytest.mark.parametrize("view", _LOADED)
def test_no_view_is_wider_than_the_screen(go: Go, view: str):
    check_narrow(go(view))


def test_the_way_of_the_tab_key_is_the_way_of_the_eye(go: Go):
    page = go("/experiments")
    reached = []
    for _ in range(12):
        page.press("Tab", "Tab")
        reached.append(page.run("document.activeElement.textContent.trim() || document.activeElement.id"))
    assert reached[0] == "Skip to the content"
    assert reached[1:8] == ["Headrace", "Overview", "Experiments", "Live", "Events", "Dead letters", "SQL"]
    assert reached[8] == "find"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_nothing_but_its_text_and_style_keeps_the_page_from_being_painted(go: Go):
    """Together they are there within a second on a line of half a megabit."""
    page = go("/")
    page.wait_for("performance.getEntriesByName('first-contentful-paint').length")
    blocking: list[dict[str, Any]] = page.run(
        "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
        ".map((each) => each.toJSON())"
        ".filter((each) => each.entryType === 'navigation' || each.renderBlockingStatus === 'blocking')"
    )
    assert [each["name"].rpartition("/")[2] for each in blocking] == ["", "style.css"]
    assert sum(each["encodedBodySize"] for each in blocking) < 60_000


def test_the_page_says_that_the_console_is_away_and_mends_itself(tmp_path: Path, broker: KafkaConnection):
    port = free_port_block(1)
    folder = tmp_path / "console"
    exposures = [exposure(name=f"entity{number}", origin_offset=number) for number in range(5)]
    with browser() as page:
        page.look(1440, 900)
        with running_console(folder, broker, exposures, port) as console:
            page.open(f"{console.address}/experiments")
            page.wait_for(_LISTED)
        page.wait_for("document.querySelector('#trouble').innerText.includes('headrace up')")
        page.wait_for("document.querySelector('#experiments-state').dataset.state === 'down'")
        with running_console(folder, broker, (), port):
            page.wait_for(f"document.querySelector('#trouble').hidden && {_LISTED}")


def test_an_empty_pipeline_says_what_to_do(tmp_path: Path):
    with (
        running_console(tmp_path / "empty", KafkaConnection("127.0.0.1:9")) as console,
        browser() as page,
    ):
        page.look(1440, 900)
        page.open(f"{console.address}/experiments")
        page.wait_for("document.querySelectorAll('#experiments-empty .steps li').length === 3")
        assert "/v1/log_event" in page.run("document.querySelector('#experiments-empty').innerText")
        page.open(f"{console.address}/live")
        page.wait_for("document.querySelector('#live-empty strong')?.textContent === 'The stream is waiting'")
        assert "headrace up" in page.run("document.querySelector('#live-empty').innerText")
        page.wait_for("document.querySelector('#trouble').innerText.includes('cannot be reached')")
