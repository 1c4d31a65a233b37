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
from support.ports import free_port_block

from schemas.kafka import KafkaConnection

Expose = Callable[..., None]

_LOADED = "document.querySelectorAll('.entity').length > 3 && document.querySelector('[data-state=live]') !== null"
_TRACE_OF_MARKUP = "document.querySelector('#stream img, #entities img, #result img') !== null"

# For every text that can be seen: its size and the contrast of its colour with what lies behind it.
_CONTRASTS = """(() => {
  const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const light = ({ r, g, b }) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = rgba(getComputedStyle(each).backgroundColor);
      if (color.a === 1) return color;
    }
    return { r: 255, g: 255, b: 255 };
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest('noscript, kbd')) continue;
    const [one, other] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
    found.push([text.slice(0, 40), (one + 0.05) / (other + 0.05)]);
  }
  return found;
})()"""

_UNNAMED = """[...document.querySelectorAll('button, a, input, select, textarea, summary, [tabindex]')]
  .filter((each) => each.checkVisibility())
  .filter((each) => ![each, ...(each.labels ?? [])].some((named) => named.textContent.trim()))
  .filter((each) => !each.getAttribute('aria-label'))
  .map((each) => each.outerHTML)"""


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
    """The page, loaded; what it complained about fails the test."""
    tab.look(1440, 900)
    tab.complaints.clear()
    tab.requests.clear()
    tab.open(console.address)
    tab.wait_for(_LOADED)
    yield tab
    assert tab.complaints == []
    assert {re.match(r"https?://[^/]+", each)[0] for each in tab.requests} == {console.address}  # type: ignore[index]


def _bars(page: Page, name: str) -> dict[str, int]:
    cards = "[...document.querySelectorAll('.entity')]"
    card = f"{cards}.find((each) => each.querySelector('h3').textContent === {name!r})"
    row = "[each.querySelector('.arm').textContent, each.querySelector('.units').textContent]"
    rows: list[list[str]] = page.run(f"[...{card}.querySelectorAll('.bars > div')].map((each) => {row})")
    return {arm: int(units.replace(",", "")) for arm, units in rows}


def test_the_bars_are_the_truth(page: Page):
    assert _bars(page, "checkout") == {arm: units for arm, (units, _) in arms("checkout").items()}
    passed = {"true": "pass", "false": "fail"}
    assert _bars(page, "search") == {passed[arm]: units for arm, (units, _) in arms("search", "value").items()}


def test_an_entity_opens_to_its_course_and_details(page: Page):
    page.run("document.querySelector('.entity summary').click()")
    page.wait_for("document.querySelector('.more dl')")
    details = page.run("document.querySelector('.more').innerText")
    assert "1 units" in details
    assert "statsig-python-core 0.24.0: 300" in details


def test_an_exposure_appears_as_it_happens(page: Page, expose: Expose):
    expose({"name": "seen_live", "unit_id": "unit-of-the-page", "group_name": "Blue", "tier": "staging"})
    page.wait_for("document.querySelector('#stream li b')?.textContent === 'seen_live'")
    row = page.run("document.querySelector('#stream li').innerText")
    assert "Blue" in row
    assert "unit-of-the-page" in row
    assert "staging" in row
    page.run("document.querySelector('#stream summary').click()")
    assert "1/0/0/0/0" in page.wait_for("document.querySelector('#stream .facts')?.innerText")


def test_the_stream_pauses_and_resumes_by_a_key_and_a_filter_narrows_it(page: Page, expose: Expose):
    page.run("document.body.focus()")
    page.press("p", "KeyP", "p")
    page.wait_for("document.querySelector('#live-state').textContent === 'Paused'")
    expose(*[{"name": "while_paused", "origin_offset": number} for number in range(5)])
    page.wait_for("document.querySelector('#pause').textContent === 'Resume (5)'")
    shown = "[...document.querySelectorAll('#stream b')].filter((each) => each.textContent === 'while_paused').length"
    assert page.run(shown) == 0
    page.press("p", "KeyP", "p")
    page.wait_for(f"{shown} === 5")
    page.press("/", "Slash", "/")
    page.wait_for("document.activeElement.id === 'filter-name'")
    page.type("only_this")
    page.wait_for("document.querySelector('#live-empty strong')?.textContent === 'Nothing matches yet'")
    expose({"name": "not_that"}, {"name": "only_this_one"})
    page.wait_for("document.querySelector('#stream li b')?.textContent === 'only_this_one'")
    assert page.run("document.querySelectorAll('#stream li').length") == 1


def test_hostile_names_are_shown_as_text(page: Page, expose: Expose):
    expose({"name": HOSTILE_NAME, "unit_id": HOSTILE_NAME, "group_name": HOSTILE_NAME, "sdk_type": HOSTILE_NAME})
    page.wait_for("[...document.querySelectorAll('#stream b')].some((each) => each.textContent.startsWith('<img'))")
    page.run("document.querySelector('#query').value = 'SELECT name FROM exposures WHERE name LIKE \\'<img%\\''")
    page.run("document.querySelector('#sql-form').requestSubmit()")
    page.wait_for("document.querySelector('#result td')?.textContent.startsWith('<img')")
    page.run("[...document.querySelectorAll('.entity summary, #stream summary')].forEach((each) => each.click())")
    page.wait_for("document.querySelectorAll('.more dl').length >= 4")
    assert page.run(_TRACE_OF_MARKUP) is False


def test_sql_is_answered_as_a_table_and_refused_with_a_remedy(page: Page):
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


def test_every_example_query_runs(page: Page):
    for number in range(page.run("document.querySelectorAll('#examples button').length")):
        page.run("document.querySelector('#sql-state').textContent = ''")
        page.run(f"document.querySelectorAll('#examples button')[{number}].click()")
        page.wait_for("/rows? in/.test(document.querySelector('#sql-state').textContent)")
        assert page.run("document.querySelector('#sql-error').hidden")


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_can_be_read_in_light_and_in_dark(page: Page, dark: bool):
    page.look(1440, 900, dark=dark)
    page.run("document.querySelector('#sql-form').requestSubmit()")
    page.run("document.querySelector('.entity summary').click()")
    page.wait_for("document.querySelector('.more dl') && document.querySelector('#result tbody')")
    page.run("document.getAnimations().forEach((each) => each.finish instanceof Function && each.cancel())")
    found: list[tuple[str, float]] = page.run(_CONTRASTS)
    assert len(found) > 50
    assert [each for each in found if each[1] < 4.5] == []


def test_everything_that_can_be_used_has_a_name(page: Page):
    assert page.run(_UNNAMED) == []


@pytest.mark.parametrize("width", [360, 390, 768, 1024])
def test_nothing_is_wider_than_the_screen(page: Page, width: int):
    page.look(width, 800, phone=width < 700)
    page.run("document.querySelector('#sql-form').requestSubmit()")
    page.wait_for("document.querySelector('#result tbody')")
    assert page.run("document.documentElement.scrollWidth") <= width


def test_nothing_but_its_text_and_style_keeps_the_page_from_being_painted(page: Page):
    """Together they are there within a second on a line of half a megabit."""
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
            page.open(console.address)
            page.wait_for(_LOADED)
        page.wait_for("document.querySelector('#trouble').innerText.includes('headrace up')")
        page.wait_for("document.querySelector('#live-state').dataset.state === 'down'")
        with running_console(folder, broker, (), port):
            page.wait_for(f"document.querySelector('#trouble').hidden && {_LOADED}")


def test_an_empty_pipeline_says_what_to_do(tmp_path: Path):
    with (
        running_console(tmp_path / "empty", KafkaConnection("127.0.0.1:9")) as console,
        browser() as page,
    ):
        page.look(1440, 900)
        page.open(console.address)
        page.wait_for("document.querySelector('#experiments-empty')?.hidden === false")
        page.wait_for("document.querySelector('#live-empty strong')?.textContent === 'The stream is waiting'")
        assert "headrace up" in page.run("document.querySelector('#live-empty').innerText")
        page.wait_for("document.querySelector('#trouble').innerText.includes('cannot be reached')")
