"""The words in which `/openapi.json` is written."""

from typing import Any, Final

Json = dict[str, Any]

TIME: Final[Json] = {"type": "string", "format": "date-time"}
COUNT: Final[Json] = {"type": "integer", "minimum": 0}
NUMBER: Final[Json] = {"type": "number"}
TEXT: Final[Json] = {"type": "string"}

_STATUS: Final = {
    400: "The request cannot be understood or answered as it is.",
    401: "A console key is missing, unknown or revoked.",
    403: "The statement would change something or reach outside the store, or the key may not read.",
    404: "There is nothing of that name.",
    408: "The query took too long and was ended.",
    409: "What was expected is not so any more.",
    413: "The body is too large.",
    415: "The body is of another type than it must say it is.",
    503: "The store or the log cannot be asked now; try again.",
}


def object_(**properties: Json) -> Json:
    """Return an object with these properties."""
    return {"type": "object", "properties": properties}


def array(items: Json) -> Json:
    """Return an array."""
    return {"type": "array", "items": items}


def boolean() -> Json:
    """Return true or false."""
    return {"type": "boolean"}


def one_of(*values: str) -> Json:
    """Return one of some words."""
    return {"type": "string", "enum": list(values)}


def or_null(schema: Json) -> Json:
    """Return what may be missing."""
    return {**schema, "type": [schema["type"], "null"]}


def ref(name: str) -> Json:
    """Return a schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def query(name: str, description: str, schema: Json | None = None, *, required: bool = False) -> Json:
    """Return a parameter of the address."""
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema or TEXT,
    }


def name_in_path(description: str) -> Json:
    """Return the parameter `name`."""
    return {"name": "name", "in": "path", "required": True, "description": description, "schema": TEXT}


def answer(description: str, schema: Json) -> Json:
    """Return an answer in JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def body(**properties: Json) -> Json:
    """Return a body in JSON that must be sent."""
    return {"required": True, "content": {"application/json": {"schema": object_(**properties)}}}


def refusals(*statuses: int) -> Json:
    """Return the answers to what is refused."""
    return {str(status): answer(_STATUS[status], ref("Refusal")) for status in statuses}
