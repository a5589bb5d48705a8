"""Which ranges of a disk must a backup copy, which must it zero, which can it skip?

An NBD server knows. This module turns its answers into one map:

    import nbd_extents

    for extent in nbd_extents.survey("nbd+unix:///disk?socket=/run/backup.sock", ["checkpoint0"]):
        print(extent.start, extent.length, extent.dirty, extent.zero)

`survey` asks a live server. `Survey` merges the replies of a server that another client asks, such
as libnbd. `merge` merges two lists of entries.
"""

from ._errors import (
    BrokenRulesError,
    LostConnectionError,
    NbdExtentsError,
    NotThereError,
    OtherError,
)
from ._nbd_extents import (
    Client,
    Extent,
    Map,
    Request,
    Source,
    Step,
    Survey,
    backup,
    chain,
    formats,
    merge,
    restore,
    survey,
    verify,
)

# tracebacks name the exceptions as programs do
for _error in (NbdExtentsError, NotThereError, LostConnectionError, BrokenRulesError, OtherError):
    _error.__module__ = __name__
del _error

__all__ = [
    "BrokenRulesError",
    "Client",
    "Extent",
    "LostConnectionError",
    "Map",
    "NbdExtentsError",
    "NotThereError",
    "OtherError",
    "Request",
    "Source",
    "Step",
    "Survey",
    "backup",
    "chain",
    "formats",
    "merge",
    "restore",
    "survey",
    "verify",
]
