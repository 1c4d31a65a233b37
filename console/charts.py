"""The chart library, served out of the jar that Maven fetched (docs/decisions/0017)."""

import hashlib
import zipfile
from pathlib import Path
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

PATH: Final = "/vendor/chart.js"
_FILE: Final = "dist/chart.umd.min.js"
_FOREVER: Final = "public, max-age=31536000, immutable"
_MISSING: Final = (
    "Charts are not shown: their library is missing. `python -m ops.stack.prepare` fetches it with Maven; "
    "the figures stand in the tables."
)


class Charts:
    """Finds the library when it is first asked for, so that one fetched later is found as well."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is where the jar is, or will be; None: nowhere."""
        self._folder = folder
        self._script: tuple[str, bytes] | None = None

    def script(self) -> tuple[str, bytes] | None:
        """Return its version and its bytes; None where it is missing or damaged."""
        if self._script is None and self._folder is not None:
            for jar in sorted(self._folder.glob("chart.js-*.jar")):
                version = jar.stem.removeprefix("chart.js-")
                try:
                    with zipfile.ZipFile(jar) as archive:
                        body = archive.read(f"META-INF/resources/webjars/chart.js/{version}/{_FILE}")
                except (OSError, KeyError, zipfile.BadZipFile):
                    continue
                self._script = version, body
        return self._script

    async def find(self, _request: Request) -> Response:
        """Lead to the version that is there; where there is none, to a script that says so."""
        found = self.script()
        if found is None:
            text = f"globalThis.chartsMissing = {orjson.dumps(_MISSING).decode()};"
            return Response(text, headers={"cache-control": "no-cache"}, media_type="text/javascript; charset=utf-8")
        return RedirectResponse(f"/vendor/chart-{found[0]}.js", 307, {"cache-control": "no-cache"})

    async def serve(self, request: Request) -> Response:
        """Answer with the library; its address names its version, so it is kept for ever."""
        found = self.script()
        if found is None or request.path_params["version"] != found[0]:
            return Response(status_code=404)
        body = found[1]
        headers = {"etag": f'"{hashlib.sha256(body).hexdigest()[:20]}"', "cache-control": _FOREVER}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="text/javascript; charset=utf-8")


def routes(folder: Path | None) -> list[Route]:
    """Return the routes of this surface."""
    charts = Charts(folder)
    return [Route(PATH, charts.find), Route("/vendor/chart-{version}.js", charts.serve)]
