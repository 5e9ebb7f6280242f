"""The error that is meant for the person at the keyboard: one line, with the file, the value and the way out."""


class UserError(Exception):
    """Raised for bad input; programs print it as one line and exit with `exit_status`.

    Exit status 2 stands for a wrong command line or configuration, 1 for data that cannot be used.
    """

    def __init__(self, message: str, *, exit_status: int = 1):
        super().__init__(" ".join(message.split()))
        self.exit_status = exit_status


class UsageError(UserError):
    """A wrong option, value or combination: nothing was started."""

    def __init__(self, message: str):
        super().__init__(message, exit_status=2)
