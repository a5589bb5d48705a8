"""The exceptions of nbd_extents, one class for each exit code of the program `nbd-extents`."""


class NbdExtentsError(Exception):
    """The base class of all failures that are not the caller's: servers, connections, files.

    Wrong arguments are not among them; they raise TypeError, ValueError or OverflowError.
    """

    #: The exit code that the program `nbd-extents` has for the same failure.
    exit_code = 1


class NotThereError(NbdExtentsError):
    """Something that was asked for is not there or does not fit: an export, a bitmap, a size."""

    exit_code = 3


class LostConnectionError(NbdExtentsError):
    """The connection was lost or refused, or ran out of time."""

    exit_code = 4


class BrokenRulesError(NbdExtentsError):
    """The server or a file broke the rules: of the protocol, or of a format."""

    exit_code = 5


class OtherError(NbdExtentsError):
    """Any other failure, such as a file that cannot be written."""
