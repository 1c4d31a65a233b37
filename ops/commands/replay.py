"""`headrace replay`: events of long ago, from the archive, through the code of today."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.output import ExitCode, fail, read_settings

if TYPE_CHECKING:
    from ops.archive.perform import Wish
    from ops.settings import Settings
    from schemas.replays import ReplayRecord

_INTO = ("live",)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Mend")
    def replay(
        from_archive: Annotated[bool, typer.Option("--from-archive", help="Read HEADRACE_ARCHIVE.")] = False,
        since: Annotated[str, typer.Option(help="Received since: 90m, 24h, 7d ago, or an ISO 8601 time.")] = "",
        until: Annotated[str, typer.Option(help="Received before: the same; empty: now.")] = "",
        into: Annotated[str, typer.Option(help="live: what is missing in the tables lands.")] = "live",
        rate: Annotated[int, typer.Option(min=0, help="At most so many events a second; 0: as fast as it goes.")] = 0,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Send nothing; count what would be sent.")] = False,
        resume: Annotated[str, typer.Option(help="Go on with this replay, which was cut off.")] = "",
        note: Annotated[str, typer.Option(help="A word on why, for the history.")] = "",
        wait: Annotated[bool, typer.Option(help="Wait for what becomes of it.")] = True,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Send archived chunks through the worker's code once more, beside the live worker.

        Events keep their ids and origins: what has landed is not sent, and whatever is sent twice lands once.
        `headrace dlq history` lists these replays too. Exit codes: 1 it was cut off or did not settle, 2 wrong
        argument, 3 the archive, Kafka or the console cannot be reached.
        """
        from ops.archive.perform import run

        settings = read_settings()
        if not settings.archive:
            fail("no archive is set.", "Set HEADRACE_ARCHIVE to where the chunks are kept.", ExitCode.USAGE)
        before = _resumable(settings, resume) if resume else None
        if before is None and not (from_archive and since):
            fail(
                "what is to be replayed was not said.",
                "Say --from-archive and --since; dead letters are replayed by `headrace dlq replay`.",
                ExitCode.USAGE,
            )
        wish = _wish(since, until, into, before, rate=rate, note=note, dry_run=dry_run, wait=wait, as_json=as_json)
        run(settings, wish, before)


def _wish(
    since: str,
    until: str,
    into: str,
    before: "ReplayRecord | None",
    *,
    rate: int,
    note: str,
    dry_run: bool,
    wait: bool,
    as_json: bool,
) -> "Wish":
    from ops.archive.perform import Wish
    from ops.dlq.choose import ChoiceError, moment_ms
    from ops.dlq.replay import now_ms
    from processors.reprocess import Span

    now = now_ms()
    try:
        span = Span(moment_ms(since, now), moment_ms(until, now) or now)
    except ChoiceError as error:
        fail(str(error), "Correct the time.", ExitCode.USAGE)
    if before is not None:
        first, last = before.selection["archive"]
        span, (into, *_), rate, note = Span(int(first), int(last)), before.selection["into"], before.rate, before.note
    if into not in _INTO:
        fail(f"--into {into!r} is not understood.", f"There are {', '.join(_INTO)}.", ExitCode.USAGE)
    if span.since >= span.until:
        fail("--since is not before --until.", "Turn them round.", ExitCode.USAGE)
    return Wish(span, into, rate, note, dry_run, wait, as_json)


def _resumable(settings: "Settings", replay_id: str) -> "ReplayRecord":
    from ops.dlq.history import replay_called

    record = replay_called(settings, replay_id)
    if record is None or "archive" not in record.selection:
        fail(f"there is no replay {replay_id} of the archive.", "`headrace dlq history` lists them.", ExitCode.USAGE)
    if record.state == "done":
        fail(f"the replay {replay_id} is done.", "Begin a new one; what has landed is passed over.", ExitCode.USAGE)
    return record
