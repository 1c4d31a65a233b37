"""The description of dry runs and of signing in, a part of `/openapi.json`."""

from typing import Final

from console.rehearsal import FILTERS, LIMIT, LIMIT_MAX
from console.schema import COUNT, TEXT, Json, answer, array, refusals
from console.schema import object_ as obj

_PREDICTION: Final = obj(**dict.fromkeys(("reason", "fate", "why", "sample"), TEXT), events=COUNT)
_FILTERS: Final = obj(
    **dict.fromkeys(FILTERS, TEXT),
    limit={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT},
    parked={"type": "boolean"},
)
_SIGNED_IN: Final = obj(signed_in={"type": "boolean"})


def _body(schema: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


PATHS: Final[Json] = {
    "/api/dead-letters/dry-run": {
        "post": {
            "summary": "What would become of a replay, without sending anything",
            "description": "Runs `headrace dlq replay --dry-run --json`, one at a time.",
            "requestBody": _body(_FILTERS),
            "responses": {
                "200": answer(
                    "By reason and by what would become of it.",
                    obj(arguments=array(TEXT), predictions=array(_PREDICTION), unreadable=COUNT),
                ),
                **refusals(400, 408, 413, 503),
            },
        }
    },
    "/api/sign-in": {
        "post": {
            "summary": "Keep a console key in a cookie of the browser",
            "requestBody": _body(obj(key=TEXT)),
            "responses": {"200": answer("The cookie is set.", _SIGNED_IN), **refusals(400, 401, 403, 413, 503)},
        }
    },
    "/api/sign-out": {
        "post": {
            "summary": "Forget the cookie",
            "responses": {"200": answer("The cookie is gone.", _SIGNED_IN)},
        }
    },
}
