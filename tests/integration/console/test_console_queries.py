"""The examples of docs/queries.md and of docs/health.md run as they stand there."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = re.findall(r"```sql\n(.*?)```", (DOCS / "queries.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: str(text).partition("\n")[0][:60])
@pytest.mark.parametrize("form", ["json", "csv", "arrow"])
def test_every_example_is_answered(ask: Callable[..., httpx.Response], example: str, form: str):
    answer = ask(example, form)
    assert answer.status_code == 200, answer.text


def test_every_table_that_is_named_is_there(ask: Callable[..., httpx.Response]):
    there = {name for (name,) in ask("SHOW TABLES").json()["rows"]}
    section = (DOCS / "queries.md").read_text().partition("## What there is")[2].partition("## Examples")[0]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", section)) - {"excluded"}
    assert named <= there
    assert len(EXAMPLES) >= 5
