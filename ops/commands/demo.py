"""`headrace demo`: the local stack with a real SDK in front of it, and an exact account of what landed."""

from typing import Annotated

import typer

from ops.output import read_settings

_GENTLE_EVENTS_PER_S = 50.0
_EVENTS = 5_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", rich_help_panel="Set up")(demo)


def demo(
    events: Annotated[
        int | None,
        typer.Option(min=1, help=f"Events to log. Default: {_EVENTS:,} with --exit, else without end."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0, help="Events a second; 0: as fast as it goes. Default: 50 when there is no end."),
    ] = None,
    exit_: Annotated[
        bool, typer.Option("--exit", help="End by itself: exit code 0 only if every event landed exactly once.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON at the end, nothing else, on standard output.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another number, other visitors.")] = 0,
) -> None:
    """Start everything on this machine and let a real Statsig SDK run an experiment through it.

    The SDK gets its config specs from this gateway, reads gates, experiments and a layer for one
    visitor after another, and logs custom events. Each event it logged is looked for by SQL, one by
    one. Without --exit it goes on until Ctrl-C. The data stays for the next start.
    """
    from ops.demo.command import run

    wanted = events or (_EVENTS if exit_ else 0)
    pace = rate if rate is not None else (0.0 if wanted else _GENTLE_EVENTS_PER_S)
    settings = read_settings()
    raise typer.Exit(run(settings, events=wanted, rate=pace, ends=exit_, seed=seed, as_json=json))
