"""The load generator as a process of its own, so that its CPU time is its own."""

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

import orjson


async def send_load(environment: Mapping[str, str], key: str, *arguments: str) -> dict[str, Any]:
    """Run `headrace loadgen --json` and return its summary. Raises RuntimeError when it says nothing usable."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "ops.cli", "loadgen", "--json", *arguments),
        env={**os.environ, **environment, "HEADRACE_LOADGEN_KEY": key},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        said = await process.stdout.read()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    lines = said.splitlines()
    if not lines:
        raise RuntimeError(f"the load generator ended with status {process.returncode} and no summary")
    summary: dict[str, Any] = orjson.loads(lines[-1])
    return summary
