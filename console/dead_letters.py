"""`/api/dead-letters`: how many events are dead, where and why."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import RefusedError, json_answer
from console.questions import rows, window_s
from console.store_pool import StorePool
from schemas.dead_letter_counts import GROUPINGS, groups
from schemas.masking import masked

_BY: Final = "stage,reason,environment,event,code"


class DeadLettersRoute:
    """Answers from the table `dead_letters`."""

    def __init__(self, store: StorePool) -> None:
        self._store = store

    async def show(self, request: Request) -> Response:
        """Answer a request."""
        given = request.query_params
        if unknown := set(given) - {"window", "by", "landed"}:
            raise RefusedError(
                400,
                "unknown_parameter",
                f"There is no parameter {min(unknown)[:60]!r}.",
                "There are window, by, landed.",
            )
        by = [name for name in given.get("by", _BY).split(",") if name]
        if not by or set(by) - set(GROUPINGS):
            message = f"by={given.get('by', '')[:60]!r} is not understood."
            raise RefusedError(400, "unknown_grouping", message, f"There are {', '.join(GROUPINGS)}.")
        where = "1"
        if window := given.get("window"):
            where = f"last_failed_at >= now64(3) - INTERVAL {window_s(window)} SECOND"
        found = await rows(self._store, groups(where, by, landed_too=given.get("landed") == "1"))
        return json_answer({"groups": [_group(row, by) for row in found]})


def _group(row: dict[str, Any], by: list[str]) -> dict[str, Any]:
    return {
        **{name: row[f"by_{name}"] for name in by},
        "dead": int(row["dead"]),
        "landed": int(row["landed"]),
        "class": row["class"],
        "first": row["first"].replace(" ", "T") + "Z",
        "last": row["last"].replace(" ", "T") + "Z",
        "sample": row["sample"],
        "message": masked(str(row["said"]).encode("utf-8", "surrogatepass")),
    }


def routes(store: StorePool) -> list[Route]:
    """Return the routes of this surface."""
    return [Route("/api/dead-letters", DeadLettersRoute(store).show)]
