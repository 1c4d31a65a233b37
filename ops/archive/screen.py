"""Comparisons as people and programs read them."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.archive.compare import Comparison
from ops.console_client import printable


def comparison_json(one: Comparison) -> dict[str, Any]:
    """Return a comparison as JSON has it; `variants` are those whose numbers of rows differ: [live, shadow]."""
    return {
        "equal": one.is_equal,
        "live": one.live.told(),
        "shadow": one.shadow.told(),
        "variants": one.variants(),
    }


def print_comparisons(comparisons: Sequence[Comparison], *, to_stderr: bool = False) -> None:
    """Print whether each table is its shadow, and which variants differ."""
    console = Console(highlight=False, stderr=to_stderr)
    for one in comparisons:
        said = Text("equal", "green") if one.is_equal else Text("different", "red")
        console.print(Text(f"  {one.table}:"), said)
        table = Table(header_style="bold", border_style="dim")
        for name in ("", *one.live.told()):
            table.add_column(name, justify="right")
        for name, contents in (("live", one.live), ("shadow", one.shadow)):
            table.add_row(
                name, *(f"{value:,}" if isinstance(value, int) else value for value in contents.told().values())
            )
        console.print(table)
        for variant, (live, shadow) in one.variants().items():
            console.print(Text(f"    {printable(variant)}: {live:,} rows, {shadow:,} in the shadow"))
