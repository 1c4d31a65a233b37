"""`headrace dlq`: what is dead and why, and how it comes to life again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ops.output import ExitCode, fail, print_json, read_settings
from ops.settings import Settings

if TYPE_CHECKING:
    from ops.dlq.choose import Choice
    from ops.dlq.fix import Rule
    from ops.dlq.replay import Order
    from schemas.replays import ReplayRecord

_BY: Final = "stage,reason,environment,event,code"

Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only of this reason; may be given again.")]
Stages = Annotated[list[str] | None, typer.Option("--stage", help="Only at ingest, worker or lander.")]
Projects = Annotated[list[str] | None, typer.Option("--project", help="Only of this project.")]
Environments = Annotated[list[str] | None, typer.Option("--environment", help="Only of this environment.")]
EventNames = Annotated[list[str] | None, typer.Option("--event", help="Only events of this name.")]
Sdks = Annotated[list[str] | None, typer.Option("--sdk", help="Only of this SDK type, as it calls itself.")]
Codes = Annotated[list[str] | None, typer.Option("--code", help="Only what this version of Headrace refused.")]
Since = Annotated[str, typer.Option(help="Failed since: 90m, 24h, 7d ago, or an ISO 8601 time.")]
Until = Annotated[str, typer.Option(help="Failed before: the same.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Dead letters: list and show them, replay them once what was wrong is mended.", no_args_is_help=True
    )
    group.command("list")(list_)
    group.command("show")(show)
    group.command("replay")(replay)
    group.command("history")(history)
    app.add_typer(group, name="dlq", rich_help_panel="Mend")


def list_(
    reason: Reasons = None,
    stage: Stages = None,
    project: Projects = None,
    environment: Environments = None,
    event: EventNames = None,
    sdk: Sdks = None,
    code: Codes = None,
    since: Since = "",
    until: Until = "",
    by: Annotated[
        str, typer.Option(help="Group by these: stage, reason, project, environment, event, code, sdk, hour.")
    ] = _BY,
    landed: Annotated[
        bool, typer.Option("--landed", help="Also groups of which every event has landed since.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Count events that are dead, by reason, stage, environment, event name and code version.

    An event that failed again in a replay counts once, as it stands now. One that has landed since is
    counted beside. Exit codes: 2 wrong argument, 3 the console cannot be asked.
    """
    from schemas.dead_letter_counts import GROUPINGS, groups

    choice = _choice(reason, stage, project, environment, event, sdk, code, since, until)
    wanted = [name.strip() for name in by.split(",") if name.strip()]
    if not wanted or set(wanted) - set(GROUPINGS):
        fail(f"--by {by!r} is not understood.", f"There are {', '.join(GROUPINGS)}.", ExitCode.USAGE)
    rows = _asked(read_settings(), groups(choice.where(), wanted, landed_too=landed))
    if as_json:
        print_json(rows)
        return
    from ops.dlq.screen import print_groups

    print_groups(rows, wanted)


def show(
    event: Annotated[
        str, typer.Argument(help="Event id, origin log/partition/offset/index, or dlq.STAGE/partition/offset.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with all its attempts and its bytes, without keys and private attributes.

    Exit codes: 1 there is none, 2 wrong argument, 3 the console cannot be asked.
    """
    from ops.dlq.questions import one

    try:
        question = one(event.strip())
    except ValueError:
        fail(
            f"{event!r} names no dead letter.",
            "Copy it from the column `sample` of `headrace dlq list`.",
            ExitCode.USAGE,
        )
    rows = _asked(read_settings(), question)
    if not rows:
        fail(f"there is no dead letter {event}.", "It may not have landed in the store yet; try again in a second.")
    if as_json:
        print_json(rows)
        return
    from ops.dlq.screen import print_letters

    print_letters(rows)


def replay(
    reason: Reasons = None,
    stage: Stages = None,
    project: Projects = None,
    environment: Environments = None,
    event: EventNames = None,
    sdk: Sdks = None,
    code: Codes = None,
    since: Since = "",
    until: Until = "",
    ids: Annotated[Path | None, typer.Option(help="A file of event ids or origins, one a line.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything, where no filter is given.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most so many events; 0: all.")] = 0,
    rate: Annotated[int, typer.Option(min=0, help="At most so many events a second; 0: as fast as it goes.")] = 0,
    fix: Annotated[Path | None, typer.Option(help="Rules that change the events, .toml or .json.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; say what would become of each.")] = False,
    resume: Annotated[str, typer.Option(help="Go on with this replay, which was cut off.")] = "",
    parked: Annotated[
        bool, typer.Option("--parked", help="Also events that failed too often to be tried again.")
    ] = False,
    note: Annotated[str, typer.Option(help="A word on why, for the history.")] = "",
    wait: Annotated[bool, typer.Option(help="Wait for what becomes of it.")] = True,
    as_json: AsJson = False,
) -> None:
    """Send dead letters through the stage that refused them once more, under their first ids and origins.

    What has landed is not sent, and whatever is sent twice lands once: a replay can be repeated, cut off
    and gone on with. Exit codes: 1 it was cut off or did not settle, 2 wrong argument, 3 Kafka or the
    console cannot be asked.
    """
    from ops.dlq.perform import dry_run as perform_dry_run
    from ops.dlq.perform import run
    from ops.dlq.replay import Order

    settings = read_settings()
    if resume:
        before = _resumable(settings, resume)
        run(settings, _order_of(before), before, wait=wait, as_json=as_json)
        return
    choice = _choice(reason, stage, project, environment, event, sdk, code, since, until, ids)
    if choice.is_everything and not everything:
        fail("no filter was given.", "Choose with --reason, --since, …; --all replays everything.", ExitCode.USAGE)
    order = Order(choice, _rules(fix), limit, rate, note, parked)
    if dry_run:
        perform_dry_run(settings, order, as_json=as_json)
    else:
        run(settings, order, None, wait=wait, as_json=as_json)


def history(
    replay_id: Annotated[str, typer.Argument(metavar="[ID]", help="Only this replay, with its rules.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say who replayed what, with which filter and rules, and what became of it.

    Exit codes: 1 there is no such replay, 3 Kafka cannot be reached.
    """
    from ops.dlq.history import history as every_replay
    from schemas.replays import encode

    records = every_replay(read_settings())
    if replay_id:
        records = [record for record in records if record.id == replay_id]
        if not records:
            fail(f"there is no replay {replay_id}.", "`headrace dlq history` lists them.")
    if as_json:
        import orjson

        print_json([orjson.loads(encode(record)) for record in records])
        return
    from ops.dlq.screen import print_history, print_replay

    print_history(records)
    if replay_id:
        print_replay(records[0])
        typer.echo(f"  rules: {records[0].fix or 'none'}\n  note: {records[0].note or 'none'}")


# --- arguments -----------------------------------------------------------------------------------


def _choice(
    reason: list[str] | None,
    stage: list[str] | None,
    project: list[str] | None,
    environment: list[str] | None,
    event: list[str] | None,
    sdk: list[str] | None,
    code: list[str] | None,
    since: str,
    until: str,
    ids: Path | None = None,
) -> "Choice":
    from ops.dlq.choose import Choice, ChoiceError, moment_ms, named
    from ops.dlq.replay import now_ms
    from schemas.reasons import Reason, Stage

    if unknown := set(reason or ()) - set(Reason):
        fail(f"there is no reason {min(unknown)!r}.", "`headrace dlq list` names those there are.", ExitCode.USAGE)
    if unknown := set(stage or ()) - set(Stage):
        fail(f"there is no stage {min(unknown)!r}.", f"There are {', '.join(Stage)}.", ExitCode.USAGE)
    now = now_ms()
    try:
        event_ids, origins = named(ids.read_text().splitlines()) if ids else (frozenset[bytes](), frozenset[bytes]())
        return Choice(
            reasons=tuple(reason or ()),
            stages=tuple(stage or ()),
            projects=tuple(project or ()),
            environments=tuple(environment or ()),
            event_names=tuple(event or ()),
            sdks=tuple(sdk or ()),
            code_versions=tuple(code or ()),
            since=moment_ms(since, now),
            until=moment_ms(until, now),
            event_ids=event_ids,
            origins=origins,
        )
    except (ChoiceError, OSError, UnicodeDecodeError) as error:
        fail(str(error), "Correct the filter.", ExitCode.USAGE)


def _rules(file: Path | None) -> "list[Rule]":
    from ops.dlq.fix import FixError, read_rules

    if file is None:
        return []
    if file.suffix not in (".toml", ".json"):
        fail(f"{file} is neither .toml nor .json.", "Rules are written in TOML or JSON.", ExitCode.USAGE)
    try:
        return read_rules(file.read_bytes(), is_json=file.suffix == ".json")
    except (FixError, OSError) as error:
        fail(f"{error}.", "docs/dead-letters.md describes the rules.", ExitCode.USAGE)


def _order_of(record: "ReplayRecord") -> "Order":
    from ops.dlq.choose import Choice, ChoiceError
    from ops.dlq.fix import FixError, read_written
    from ops.dlq.replay import Order

    selection = dict(record.selection)
    parked = bool(selection.pop("parked", None))
    try:
        return Order(
            Choice.of_told(selection), read_written(record.fix), record.limit, record.rate, record.note, parked
        )
    except (ChoiceError, FixError, ValueError) as error:
        fail(f"{error}.", "Begin a new replay with the same filter; what has landed is passed over.")


def _resumable(settings: Settings, replay_id: str) -> "ReplayRecord":
    from ops.dlq.history import replay_called

    record = replay_called(settings, replay_id)
    if record is None:
        fail(f"there is no replay {replay_id}.", "`headrace dlq history` lists them.", ExitCode.USAGE)
    if "archive" in record.selection:
        fail(f"the replay {replay_id} is one of the archive.", "Use `headrace replay --resume`.", ExitCode.USAGE)
    if record.state == "done":
        fail(f"the replay {replay_id} is done.", "Begin a new one; what has landed is passed over.", ExitCode.USAGE)
    return record


def _asked(settings: Settings, statement: str) -> list[dict[str, Any]]:
    import orjson

    from ops.console_client import ask_sql

    answer = orjson.loads(ask_sql(settings, statement, "json"))
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer["rows"]]
