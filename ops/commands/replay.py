"""`headrace replay`: events of long ago, from the archive, through the code of today."""

from typing import TYPE_CHECKING, Annotated

import typer

from ops.output import ExitCode, fail, read_settings

if TYPE_CHECKING:
    from ops.settings import Settings
    from processors.reprocess import Span
    from schemas.replays import ReplayRecord

_INTO = ("live", "shadow")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Mend")
    def replay(
        from_archive: Annotated[bool, typer.Option("--from-archive", help="Read HEADRACE_ARCHIVE.")] = False,
        since: Annotated[str, typer.Option(help="Received since: 90m, 24h, 7d ago, or an ISO 8601 time.")] = "",
        until: Annotated[str, typer.Option(help="Received before: the same; empty: now.")] = "",
        into: Annotated[
            str, typer.Option(help="live: what is missing lands. shadow: everything, apart, to be compared.")
        ] = "live",
        swap: Annotated[
            bool, typer.Option("--swap", help="Put the days of the shadow in the tables' place if they are equal.")
        ] = False,
        even_if_different: Annotated[
            bool, typer.Option("--even-if-different", help="Swap although the digests differ.")
        ] = False,
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
        from ops.archive.perform import Wish, run

        settings = read_settings()
        if not settings.archive:
            fail("no archive is set.", "Set HEADRACE_ARCHIVE to where the chunks are kept.", ExitCode.USAGE)
        before = _resumable(settings, resume, swap=swap) if resume else None
        if before is None and not (from_archive and since):
            fail(
                "what is to be replayed was not said.",
                "Say --from-archive and --since; dead letters are replayed by `headrace dlq replay`.",
                ExitCode.USAGE,
            )
        span, into = _span(since, until, into, before)
        if swap and (into != "shadow" or not _can_swap(span)):
            fail(
                "only whole days (UTC) that are over, replayed into the shadow, can be swapped in.",
                "Say --into shadow --since 2026-11-01 --until 2026-11-02.",
                ExitCode.USAGE,
            )
        if before is not None:
            rate, note = before.rate, before.note
        run(settings, Wish(span, into, rate, note, dry_run, wait, as_json, swap, even_if_different), before)


def _span(since: str, until: str, into: str, before: "ReplayRecord | None") -> "tuple[Span, str]":
    from ops.dlq.choose import ChoiceError, moment_ms
    from ops.dlq.replay import now_ms
    from processors.reprocess import Span

    if before is not None:
        first, last = before.selection["archive"]
        return Span(int(first), int(last)), before.selection["into"][0]
    now = now_ms()
    try:
        span = Span(moment_ms(since, now), moment_ms(until, now) or now)
    except ChoiceError as error:
        fail(str(error), "Correct the time.", ExitCode.USAGE)
    if into not in _INTO:
        fail(f"--into {into!r} is not understood.", f"There are {', '.join(_INTO)}.", ExitCode.USAGE)
    if span.since >= span.until:
        fail("--since is not before --until.", "Turn them round.", ExitCode.USAGE)
    return span, into


def _can_swap(span: "Span") -> bool:
    from ops.archive.shadow import whole_days
    from ops.dlq.replay import now_ms

    return bool(whole_days(span)) and span.until <= now_ms()


def _resumable(settings: "Settings", replay_id: str, *, swap: bool) -> "ReplayRecord":
    from ops.dlq.history import replay_called

    record = replay_called(settings, replay_id)
    if record is None or "archive" not in record.selection:
        fail(f"there is no replay {replay_id} of the archive.", "`headrace dlq history` lists them.", ExitCode.USAGE)
    if record.state == "done" and not swap:
        fail(f"the replay {replay_id} is done.", "Begin a new one; what has landed is passed over.", ExitCode.USAGE)
    return record
