"""`headrace config`: the config specs that SDKs evaluate and exposures are matched with."""

import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from ops.output import ExitCode, fail, print_json, read_settings
from ops.settings import Settings
from schemas import specs
from schemas.config_history import ConfigHistory, ProjectConfigs, spec_of
from schemas.config_versions import VersionRecord, rules_of
from schemas.limits import SPECS_BYTES
from schemas.specs import Section, Specs, SpecsError
from schemas.topics import CONFIG_VERSIONS

Project = Annotated[str | None, typer.Option(help="Default: HEADRACE_PROJECT.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_NEWEST: Final = "newest"
_LONGEST_VALUE: Final = 100


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="The config specs that SDKs evaluate and exposures are matched with: push or watch them, and look.",
        no_args_is_help=True,
    )
    group.command("push")(push)
    group.command("list")(list_)
    group.command("show")(show)
    group.command("diff")(diff)
    group.command("watch")(watch)
    app.add_typer(group, name="config", rich_help_panel="Set up")


def push(
    file: Annotated[str, typer.Argument(help="A specs document, dcs v1 or v2; `-` reads standard input.")],
    project: Project = None,
    older: Annotated[
        bool, typer.Option("--older", help="Take a document that is older than the newest, as history.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a document, and write it to the log: the gateway serves the newest by its `time`.

    Every version of every config is kept, for exposures name the one that decided them. So a document
    with the time of an earlier one must be that one. Exit codes: 1 refused, with the field and the
    reason; 2 wrong argument; 3 Kafka cannot be reached.
    """
    from ops.ask_kafka import ask
    from ops.config import registry

    settings = read_settings()
    document = _read(file)
    name = project or settings.project
    try:
        pushed = ask(settings, CONFIG_VERSIONS, _push(settings, name, document, older))
    except registry.PushRefusedError as error:
        fail(str(error), error.remedy)
    counts = Counter(entity.kind for entity in document.entities())
    served = pushed.newest_ms <= document.time
    if as_json:
        told = {"project": name, "time": document.time, "is_newest": served, "entities": dict(counts)}
        print_json(told | {"changed": pushed.changed, "was_known": not pushed.is_new})
        return
    listed = ", ".join(f"{count} {kind.replace('_', ' ')}{'s' if count > 1 else ''}" for kind, count in counts.items())
    typer.echo(f"Pushed to project {name}, time {document.time}: {listed or 'no entities'}; {pushed.changed} changed.")
    if not served:
        typer.echo(f"  It is not the newest: SDKs are served the document of time {pushed.newest_ms}.", err=True)


def _read(file: str) -> Specs:
    try:
        if file == "-":
            source = sys.stdin.buffer.read(SPECS_BYTES + 1)
        else:
            with Path(file).open("rb") as content:
                source = content.read(SPECS_BYTES + 1)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.", "", ExitCode.USAGE)
    try:
        return specs.parse(source)
    except SpecsError as error:
        fail(f"{file} is refused: {error}.", "SDKs would not evaluate it; mend that place and push it again.")


async def _push(settings: Settings, project: str, document: Specs, older: bool) -> Any:
    from ops.config import registry

    history = await registry.read_history(settings.kafka)
    return await registry.push(settings.kafka, history, project, document, _now_ms(), older)


def list_(
    project: Project = None,
    documents: Annotated[bool, typer.Option("--documents", help="List the documents instead of the configs.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the configs that are known, with the version in force; or the documents that were pushed."""
    settings = read_settings()
    name = project or settings.project
    configs = _history(settings).project(name)
    if documents:
        rows = [_described_document(record) for _, record in sorted(configs.documents.items())] if configs else []
    else:
        rows = [_described_entity(configs, *at) for at in sorted(configs.entities())] if configs else []
    if as_json:
        print_json(rows)
        return
    _print_table(rows, f"Nothing was pushed to project {name}: `headrace config push FILE`.")


def show(
    name: Annotated[str, typer.Argument(help="A gate, experiment, dynamic config or layer.")],
    version: Annotated[str, typer.Option(help="As exposures carry it; default: the one in force.")] = "",
    section: Annotated[str, typer.Option("--in", help="gate, config or layer, where several have the name.")] = "",
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Show a config: its versions, and the rules of one of them. Exit code 1: it is not known."""
    settings = read_settings()
    configs = _history(settings).project(project or settings.project)
    found = [at for at in configs.entities() if at[1] == name and section in ("", at[0])] if configs else []
    if configs is None or not found:
        fail(f"No config {name} is known.", "`headrace config list` names those that are.")
    if len(found) > 1:
        fail(f"{name} is several: {', '.join(at[0] for at in found)}.", "Say which with --in.", ExitCode.USAGE)
    timeline = configs.timeline(*found[0])
    chosen = [record for record in timeline if record.spec and version in ("", record.version)]
    if not chosen:
        known = ", ".join(dict.fromkeys(record.version for record in timeline if record.spec))
        fail(f"{name} has no version {version}.", f"It has {known}." if known else "It was never there.")
    record = chosen[-1]
    versions = [_described_version(each) for each in timeline]
    if as_json:
        print_json({**_described_version(record), "name": name, "spec": spec_of(record), "versions": versions})
        return
    _print_table(versions, "")
    spec = spec_of(record)
    _say(f"{record.kind} {name}, version {record.version or '–'}, by {spec.get('idType')}, salt {spec.get('salt')}")
    for rule_id, group in rules_of(spec).items():
        _say(f"  {rule_id}  {group}")


def diff(
    before: Annotated[str, typer.Argument(help="The time of a document in ms, `newest`, or a file.")],
    after: Annotated[str, typer.Argument(help="The same.")],
    project: Project = None,
    as_json: AsJson = False,
) -> None:
    """Say what changed between two documents, to the field. Exit code 1: something did."""
    from ops.config.compare import differences

    settings = read_settings()
    configs = None
    if not all(Path(each).is_file() for each in (before, after)):
        configs = _history(settings).project(project or settings.project)
    found = differences(_state(configs, before), _state(configs, after))
    if as_json:
        print_json([each._asdict() for each in found])
    for each in found if not as_json else ():
        where = f"{each.section} {each.name}{' ' if each.path else ''}{each.path}"
        if each.change == "changed":
            _say(f"~ {where}: {_short(each.before)} → {_short(each.after)}")
        else:
            _say(f"{'+' if each.change == 'added' else '-'} {where}")
    if found:
        raise typer.Exit(ExitCode.FAILED)
    if not as_json:
        typer.echo("Nothing differs.")


def _state(configs: ProjectConfigs | None, which: str) -> Any:
    from ops.config.compare import state_of_document, state_of_history

    if Path(which).is_file():
        return state_of_document(_read(which))
    if configs is None:
        fail("No document is known.", "`headrace config push FILE`.")
    time_ms = configs.newest_ms if which == _NEWEST else int(which) if which.isdigit() else -1
    if time_ms not in configs.documents:
        fail(
            f"{which} is neither a file nor the time of a document.",
            "`headrace config list --documents` names the times.",
            ExitCode.USAGE,
        )
    return state_of_history(configs, time_ms)


def watch(
    url: Annotated[
        str, typer.Argument(help="Where SDKs get their specs, such as …/v1/download_config_specs/KEY.json.")
    ],
    key: Annotated[str, typer.Option(help="Key that is sent as SDKs do; `-` reads it from standard input.")] = "",
    project: Project = None,
    once: Annotated[bool, typer.Option("--once", help="Ask once, and end: exit code 1 when it failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask an upstream every 10 s, as an SDK does, and push each document that is new.

    Whatever it answers instead, and while it is away, the last good document stays in force. Ctrl-C ends it.
    """
    from ops.ask_kafka import ask

    if not url.startswith(("http://", "https://")):
        fail("The address must begin with http:// or https://.", "", ExitCode.USAGE)
    settings = read_settings()
    secret = sys.stdin.readline().strip() if key == "-" else key
    try:
        well = ask(settings, CONFIG_VERSIONS, _watch(settings, url, secret, project or settings.project, once, as_json))
    except KeyboardInterrupt:
        return
    if not well:
        raise typer.Exit(ExitCode.FAILED)


async def _watch(settings: Settings, url: str, key: str, project: str, once: bool, as_json: bool) -> bool:
    from ops.config.follow import follow_upstream
    from ops.config.watch import Teller, Upstream, client_for

    def say(what: dict[str, Any]) -> None:
        if as_json:
            print_json(what)
        else:
            typer.echo(" ".join(f"{name}={value}" if name != "event" else str(value) for name, value in what.items()))

    async with client_for(key) as client:
        return await follow_upstream(settings.kafka, project, Upstream(client, url), Teller(say), once=once)


def _history(settings: Settings) -> ConfigHistory:
    from ops.ask_kafka import ask
    from ops.config import registry

    return ask(settings, CONFIG_VERSIONS, registry.read_history(settings.kafka))


def _described_document(record: VersionRecord) -> dict[str, Any]:
    return {
        "time": record.time,
        "pushed_at": record.pushed_at,
        "bytes": record.size_bytes,
        "checksum": record.checksum,
        "sha256": record.sha256[:12],
    }


def _described_entity(configs: ProjectConfigs, section: Section, name: str) -> dict[str, Any]:
    timeline = configs.timeline(section, name)
    last = timeline[-1]
    return {
        "kind": last.kind,
        "name": name,
        "version": last.version,
        "since": last.time,
        "versions": sum(bool(record.spec) for record in timeline),
        "is_gone": not last.spec,
    }


def _described_version(record: VersionRecord) -> dict[str, Any]:
    return {
        "kind": record.kind,
        "version": record.version,
        "since": record.time,
        "pushed_at": record.pushed_at,
        "is_gone": not record.spec,
    }


def _say(line: str) -> None:
    """Print a line of what somebody else may have named."""
    from ops.console_client import printable

    typer.echo(printable(line))


def _print_table(rows: list[dict[str, Any]], none: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ops.console_client import printable

    if not rows:
        typer.echo(none)
        return
    table = Table(*(name.replace("_", " ") for name in rows[0]), header_style="bold")
    for row in rows:
        table.add_row(*(Text(printable(_cell(name, value))) for name, value in row.items()))
    Console().print(table)


def _cell(name: str, value: Any) -> str:
    from datetime import UTC, datetime

    if isinstance(value, bool):
        return "yes" if value else ""
    if name in ("since", "pushed_at"):
        return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
