"""What a stack writes down about itself: who holds the data folder, and which processes are its own."""

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from ops.stack.errors import InUseError
from ops.stack.pids import ProcessId, identify


class RecordedProcess(msgspec.Struct, frozen=True):
    """A process as `stack.json` names it; `started_at` is the kernel's word for when it began."""

    pid: int
    started_at: str

    @property
    def id(self) -> ProcessId:
        """The process, to be asked whether it is alive."""
        return ProcessId(self.pid, self.started_at)


class StackRecord(RecordedProcess, frozen=True):
    """The content of `stack.json`: the supervisor and its children."""

    children: dict[str, RecordedProcess] = {}


def path_of(data_dir: Path) -> Path:
    """Return where the stack over `data_dir` writes itself down."""
    return data_dir / "stack.json"


def write(data_dir: Path, children: Mapping[str, ProcessId]) -> None:
    """Write down this process and its children, whole or not at all."""
    recorded = {name: RecordedProcess(*child) for name, child in children.items()}
    record = StackRecord(*identify(os.getpid()), recorded)
    target = path_of(data_dir)
    draft = target.with_suffix(".new")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    draft.replace(target)


def read(data_dir: Path) -> StackRecord | None:
    """Return what the last stack over `data_dir` wrote down; None when there is nothing readable."""
    try:
        return msgspec.json.decode(path_of(data_dir).read_bytes(), type=StackRecord)
    except (OSError, msgspec.MsgspecError):
        return None


class DataFolder:
    """Exclusive use of a data folder, for as long as the `with` block runs or the process lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: IO[str] | None = None

    def __enter__(self) -> Self:
        """Take the folder. Raises InUseError, which names the process that has it."""
        # What people did stands in there, and nobody else on this machine need read it.
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = (self._path / "stack.lock").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            handle.close()
            raise InUseError(
                f"The data folder {self._path} is in use by the stack of process {holder}.",
                "Stop that stack, or give this one its own folder with HEADRACE_DATA_DIR (and ports of its own).",
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        self._handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the folder go."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
