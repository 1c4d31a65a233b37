"""One experiment in a real browser: its figures are the truth, its charts have them as tables; and signing in."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from support.brokers import run_apart
from support.chromium import CHROMIUM, Page, browser
from support.console_process import RunningConsole, running_console
from support.experiment_truth import ARMS, DAY_MS, NAME, Books, document
from support.page_checks import AXE, check_narrow, check_readable

from ops.kafka import publish
from ops.settings import Settings
from ops.stack.jars import CHARTS, jars_dir
from processors.landing.config_rows import row_of
from schemas import keys, specs
from schemas.config_history import records_of_push
from schemas.kafka import KafkaConnection
from schemas.keys import KeyKind
from schemas.topics import KEYS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: apt-get install chromium"),
]

_NOBODY = KafkaConnection("127.0.0.1:9")
_SEED = 8
_JUDGED = "document.querySelectorAll('.signals li').length === 8 && document.querySelector('.timeline tbody')"
_DRAWN = """globalThis.Chart && [...document.querySelectorAll('.plot canvas')].every((canvas) => {
  const chart = Chart.getChart(canvas);
  return canvas.width > 100 && chart?.data.datasets.length > 1 && chart.getDatasetMeta(0).data.length > 1;
})"""


@pytest.fixture(scope="module")
def books() -> Books:
    print(f"seed {_SEED}")
    begins_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - 4 * DAY_MS
    return Books(_SEED, begins_ms).fill(units=600)


def _config_rows(books: Books) -> bytes:
    lines = []
    for version in ARMS:
        time_ms = books.version_time_ms(version)
        pushed = specs.parse(orjson.dumps(document(version, time_ms)))
        lines += [orjson.dumps(row_of(record, time_ms)) for record in records_of_push(None, "default", pushed, time_ms)]
    return b"\n".join(lines)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory, books: Books) -> Iterator[RunningConsole]:
    folder = tmp_path_factory.mktemp("experiment")
    with running_console(folder, _NOBODY, books.rows, config_rows=_config_rows(books)) as running:
        yield running


@pytest.fixture
def page(console: RunningConsole) -> Iterator[Page]:
    with browser() as page:
        page.look(1440, 900)
        page.open(f"{console.address}/experiments/{NAME}")
        page.wait_for(_JUDGED)
        yield page
        assert page.complaints == []
        assert {re.match(r"https?://[^/]+", each)[0] for each in page.requests} == {console.address}  # type: ignore[index]


def _rows(page: Page, table: str) -> list[list[str]]:
    cells = "[...row.cells].map((each) => each.textContent)"
    found: list[list[str]] = page.run(f"[...document.querySelectorAll('{table} tbody tr')].map((row) => {cells})")
    return found


def test_the_arms_stand_against_their_plan_as_they_were_generated(page: Page, books: Books):
    units = books.units_of_version()["7"]
    shown = {row[0]: (row[1], row[3]) for row in _rows(page, ".arms")}
    assert shown == {arm: (f"{units[arm]:,}", f"{share * 100:.1f} %") for arm, share in ARMS["7"].items()}
    versions = {row[0]: row[3] for row in _rows(page, ".timeline")}
    assert versions == {version: f"{sum(each.values()):,}" for version, each in books.units_of_version().items()}


@pytest.mark.skipif(not jars_dir(Settings().cache_dir, CHARTS).is_dir(), reason="no charts: ops.stack.prepare")
def test_every_chart_is_drawn_says_what_is_to_be_seen_and_has_its_figures_as_a_table(page: Page, books: Books):
    page.wait_for(_DRAWN)
    says = page.run("[...document.querySelectorAll('.plot canvas')].map((each) => each.getAttribute('aria-label'))")
    assert "red above" in says[0]
    newcomers = [row["group_name"] for row in books.newcomers().values()]
    assert all(f"{arm} {newcomers.count(arm)}" in says[1] for arm in ARMS["7"])
    page.run("document.querySelectorAll('.as-table')[1].open = true")
    page.wait_for("document.querySelectorAll('.as-table')[1].querySelector('tbody tr')")
    rows = _rows(page, "[aria-labelledby=course] .as-table")
    assert sum(int(cell.replace(",", "")) for row in rows for cell in row[1:] if cell != "–") == len(newcomers)


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is missing: tests/install-parts")
def test_the_experiment_can_be_read_used_without_eyes_and_on_a_phone(page: Page):
    check_readable(page)
    check_narrow(page)


def test_without_the_chart_library_the_page_says_so_and_shows_the_figures(tmp_path: Path, books: Books):
    folder = tmp_path / "bare"
    with (
        running_console(
            folder, _NOBODY, books.rows, charts=tmp_path / "none", config_rows=_config_rows(books)
        ) as console,
        browser() as page,
    ):
        page.look(1440, 900)
        page.open(f"{console.address}/experiments/{NAME}")
        page.wait_for(_JUDGED)
        page.wait_for("document.querySelector('.missing')?.textContent.includes('ops.stack.prepare')")
        page.wait_for("document.querySelector('.as-table[open] tbody tr')")
        assert page.complaints == []


def test_beyond_this_machine_the_page_asks_for_a_key_and_goes_on_once_it_has_one(
    tmp_path: Path, broker: KafkaConnection
):
    key = keys.generate(KeyKind.CONSOLE)
    record = keys.record_of(key, KeyKind.CONSOLE, "default", "production", 1)
    run_apart(publish(broker, KEYS, [(record.key_hash.encode(), keys.encode(record))]))
    with running_console(tmp_path / "closed", broker, asks_for_keys=True) as console, browser() as page:
        page.look(1440, 900)
        page.open(f"{console.address}/experiments")
        page.wait_for("document.activeElement.id === 'key'")
        page.type("console-wrong")
        page.press("Enter", "Enter", "\r")
        page.wait_for("document.querySelector('.sign-in .problem')?.textContent.includes('keys create --kind console')")
        page.run("document.querySelector('#key').value = ''; document.querySelector('#key').focus()")
        page.type(key)
        page.press("Enter", "Enter", "\r")
        page.wait_for("document.querySelectorAll('#experiments-empty .steps li').length === 3")
        assert key not in page.run("document.documentElement.outerHTML + document.cookie")
        page.forgive("401")
        assert page.complaints == []
