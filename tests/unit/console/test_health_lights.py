"""The list has a light for each experiment, whatever is the matter with another one."""

import asyncio
from typing import Any

from console.health.lights import GREEN, UNKNOWN
from console.health.route import Health, Lights


class _Judged(Health):
    def __init__(self) -> None:
        pass

    async def light(self, name: str, project: str, environment: str) -> dict[str, Any]:
        if (name, project, environment) == ("odd", "", ""):
            raise AttributeError(name)
        return {"light": GREEN, "why": "", "at": None}


async def test_an_experiment_that_cannot_be_judged_keeps_no_other_waiting():
    lights = Lights(_Judged())
    async with asyncio.timeout(20):
        found = await lights.of(["odd", "even", "third"], "", "")
    assert [found[name]["light"] for name in ("odd", "even", "third")] == [UNKNOWN, GREEN, GREEN]
    assert "log" in found["odd"]["why"]
