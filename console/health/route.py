"""`/api/experiments/{name}/health` and `…/users-and-checks`, and the lights of the list."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import RefusedError, json_answer
from console.fresh import Fresh
from console.health import assess
from console.health.course import course_of
from console.health.lights import UNKNOWN
from console.health.read import Facts, Scope, facts_of, scope_of
from console.questions import iso_s, rows, window_s
from console.store_pool import StorePool

log = structlog.get_logger()

Json = dict[str, Any]

_Named = tuple[str, str, str]
"""Name, project and environment of an experiment; the latter are "" where any will do."""

_SHARED_S: Final = 2.0
_LIST_PATIENCE_S: Final = 1.0
_LIGHT_KEPT_S: Final = 20.0
_LIGHT_REST: Final = 3
_LIGHTS_MAX: Final = 500

_EXISTS: Final = """
    SELECT count() AS found FROM (
        SELECT 1 FROM exposures WHERE (kind = 'experiment' AND name = {name:String})
            OR (kind = 'layer' AND allocated_experiment = {name:String}) LIMIT 1
        UNION ALL
        SELECT 1 FROM config_versions WHERE section = 'config' AND kind = 'experiment' AND name = {name:String} LIMIT 1
    )
"""


class Health:
    """Answers for one experiment at a time; what is asked by many at once is computed once."""

    def __init__(self, store: StorePool) -> None:
        self._store = store
        self._facts: Fresh[Facts] = Fresh(_SHARED_S)

    async def facts(self, name: str, project: str = "", environment: str = "") -> Facts | None:
        """Return what is known of an experiment, None where no exposure of it was ever counted."""
        scope = await scope_of(self._store, name, project, environment)
        if scope is None:
            return None
        return await self._facts.get((name, scope.project, scope.environment), lambda: facts_of(self._store, scope))

    async def light(self, name: str, project: str, environment: str) -> Json:
        """Return the light of an experiment and why."""
        facts = await self.facts(name, project, environment)
        if facts is None:
            return {"light": UNKNOWN, "why": _NOT_YET, "at": iso_s(time.time())}
        found = await asyncio.to_thread(assess.health, facts)
        return {"light": found["light"], "why": found["why"], "at": found["as_of"]}

    async def show(self, request: Request) -> Response:
        """Answer `…/health`."""
        name, project, environment = _asked(request)
        facts = await self.facts(name, project, environment)
        head: Json = {"name": name, "at": iso_s(time.time())}
        if facts is None:
            await self._refuse_unknown(name)
            return json_answer({**head, **_nothing(project, environment)})
        # In a thread: the path of a long experiment is some tenths of a second of arithmetic.
        return json_answer({**head, **_scope(facts.scope), **await asyncio.to_thread(assess.health, facts)})

    async def show_course(self, request: Request) -> Response:
        """Answer `…/users-and-checks`."""
        name, project, environment = _asked(request, "window")
        window = request.query_params.get("window") or "7d"
        length_s = window_s(window)
        facts = await self.facts(name, project, environment)
        if facts is None:
            await self._refuse_unknown(name)
            facts = Facts.nothing(Scope(name, project, environment))
        course = await course_of(self._store, facts, length_s)
        head = {"name": name, **_scope(facts.scope), "at": iso_s(time.time()), "window": window}
        return json_answer({**head, **course})

    async def _refuse_unknown(self, name: str) -> None:
        found = await rows(self._store, _EXISTS, {"name": name})
        if not found[0]["found"]:
            raise RefusedError(
                404,
                "unknown_experiment",
                f"There is no experiment {name[:200]!r}: no exposure and no config of it.",
                "See /api/experiments for what there is, or push its config with `headrace config push`.",
            )


_FAILED: Final = "The console failed to judge it; its log says why."
_NOT_YET: Final = "Its exposures are not counted yet: that is done every some seconds after they have landed."


def _asked(request: Request, *others: str) -> tuple[str, str, str]:
    known = {"project", "environment", *others}
    if unknown := set(request.query_params) - known:
        raise RefusedError(
            400,
            "unknown_parameter",
            f"There is no parameter {min(unknown)[:60]!r}.",
            f"There are {', '.join(sorted(known))}.",
        )
    given = request.query_params
    return request.path_params["name"], given.get("project", ""), given.get("environment", "")


def _scope(scope: Scope) -> Json:
    return {"project": scope.project, "environment": scope.environment, "others": scope.others}


def _nothing(project: str, environment: str) -> Json:
    empty = Facts.nothing(Scope("", project, environment))
    return {**_scope(empty.scope), **assess.health(empty), "why": _NOT_YET}


class Lights:
    """The lights of the list: kept for a while, and renewed one after the other while somebody looks."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._known: dict[_Named, tuple[float, Json]] = {}
        self._wanted: dict[_Named, None] = {}
        self._task: asyncio.Task[None] | None = None

    async def of(self, names: Iterable[str], project: str, environment: str) -> dict[str, Json]:
        """Return the lights, after waiting a moment for those that are not known; what is not then is said so."""
        asked = [(name, project, environment) for name in dict.fromkeys(names)][:_LIGHTS_MAX]
        now = time.monotonic()
        fresh = {each for each, (at, _) in self._known.items() if now - at < _LIGHT_KEPT_S}
        self._wanted = dict.fromkeys(each for each in asked if each not in fresh)
        if self._wanted and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._renew(), name="lights")
        if self._task is not None and any(each not in self._known for each in asked):
            await asyncio.wait([self._task], timeout=_LIST_PATIENCE_S)
        self._known = {each: entry for each, entry in self._known.items() if now - entry[0] < 20 * _LIGHT_KEPT_S}
        soon = {"light": UNKNOWN, "why": "It is being reckoned; ask again in a moment.", "at": None}
        return {each[0]: self._known[each][1] if each in self._known else soon for each in asked}

    async def _renew(self) -> None:
        while self._wanted:
            one = min(self._wanted, key=lambda each: self._known.get(each, (0.0, {}))[0])
            self._wanted.pop(one)
            began = time.monotonic()
            is_new = one not in self._known
            try:
                self._known[one] = (time.monotonic(), await self._health.light(*one))
            except RefusedError as error:
                log.warning("light_unknown", error=error.message)
                return
            except Exception:
                # One that cannot be judged keeps no other waiting.
                log.exception("light_failed", experiment=one[0])
                self._known[one] = (time.monotonic(), {"light": UNKNOWN, "why": _FAILED, "at": None})
            await asyncio.sleep(0 if is_new else _LIGHT_REST * (time.monotonic() - began))


def routes(health: Health) -> list[Route]:
    """Return the routes of this surface; they stand before that of one experiment, whose name may hold anything."""
    return [
        Route("/api/experiments/{name:path}/health", health.show),
        Route("/api/experiments/{name:path}/users-and-checks", health.show_course),
    ]
