"""What can keep a stack from starting."""


class StackError(Exception):
    """A part cannot be started. `remedy` says what to do about it."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class MissingPartError(StackError):
    """A program that the stack needs is not installed, or too old."""


class InUseError(StackError):
    """A port or the data folder belongs to another process."""
