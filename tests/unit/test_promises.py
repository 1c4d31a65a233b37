"""docs/promises.md names the test that shows each promise; a name that leads nowhere is a promise without proof."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def paragraphs() -> list[str]:
    """Return what is promised, each with all that follows until the next promise."""
    text = (ROOT / "docs" / "promises.md").read_text()
    return re.split(r"^(?=\*\*)", text, flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("promise", paragraphs(), ids=lambda promise: promise.split("**")[1])
def test_each_promise_names_a_test_and_each_test_that_is_named_exists(promise: str):
    named = NAMED.findall(promise)
    assert named
    assert len(named) == promise.count("`tests/"), "a test is named in another form"
    for path, name in named:
        source = ROOT / path
        assert source.is_file(), path
        assert re.search(rf"^(async )?def {name}\(", source.read_text(), re.MULTILINE), f"{path}::{name}"
