"""The chart library comes out of a jar that may be there, come later, or be damaged."""

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from console.charts import PATH, routes
from ops.stack.jars import CHARTS, jars_dir

_BODY = b"globalThis.Chart = class {};"


def _jar(folder: Path, version: str = "9.9.9", body: bytes = _BODY) -> None:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"chart.js-{version}.jar", "w") as jar:
        jar.writestr(f"META-INF/resources/webjars/chart.js/{version}/dist/chart.umd.min.js", body)


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Starlette(routes=routes(tmp_path / "charts")))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def test_it_is_served_out_of_its_jar_under_its_version_and_kept_for_long(ask: httpx.AsyncClient, tmp_path: Path):
    _jar(tmp_path / "charts")
    found = await ask.get(PATH, follow_redirects=True)
    assert found.content == _BODY
    assert found.url.path == "/vendor/chart-9.9.9.js"
    assert found.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in found.headers["cache-control"]
    again = await ask.get(str(found.url), headers={"if-none-match": found.headers["etag"]})
    assert again.status_code == 304
    assert (await ask.get("/vendor/chart-9.9.8.js")).status_code == 404


async def test_where_it_is_missing_the_page_is_told_how_to_get_it_until_it_is_there(
    ask: httpx.AsyncClient, tmp_path: Path
):
    missing = await ask.get(PATH)
    assert missing.status_code == 200
    assert "ops.stack.prepare" in missing.text
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "chart.js-1.2.3.jar").write_bytes(b"damaged")
    assert "chartsMissing" in (await ask.get(PATH)).text
    _jar(tmp_path / "charts")
    assert (await ask.get(PATH, follow_redirects=True)).content == _BODY


def test_charts_and_broker_are_fetched_from_what_their_poms_name(tmp_path: Path):
    assert jars_dir(tmp_path, CHARTS).name == f"charts-{CHARTS.version}"
    assert f"<charts.version>{CHARTS.version}<" in CHARTS.pom
