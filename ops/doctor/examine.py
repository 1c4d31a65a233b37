"""The whole examination, in the order in which a person would look."""

import asyncio
from collections.abc import Iterator

from ops.doctor import machine, pipeline
from ops.doctor.finding import Finding
from ops.settings import Settings


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield all findings. What should run is looked at only where something should: a stack, or a cluster."""
    yield from machine.examine_programs(settings)
    yield from machine.examine_data_folder(settings.data_dir.resolve())
    if settings.spill_folder is not None:
        yield from machine.examine_spill_folder(settings.spill_folder, settings.spill_max_bytes)
    runs_here = pipeline.stack_runs(settings)
    if settings.has_local_broker or runs_here:
        yield from pipeline.examine_stack(settings)
    if settings.has_local_broker and not runs_here:
        yield from machine.examine_ports(settings, machine.listener_of)
        return
    yield from pipeline.examine_processes(settings)
    yield from asyncio.run(pipeline.examine_kafka(settings))
    yield pipeline.examine_console(settings)
