#!/usr/bin/env python3
"""Times a download over a slow line beside nbdcopy: each answer to a read comes 50 ms late.

`nbd-extents backup` into a pipe and `nbdcopy` to its `null:` read the same export of 256 MiB (or as
many MiB as the second argument says), each over one connection with 16 MiB in flight.
nbdkit serves it with its delay filter.

Needs nbdkit and nbdcopy (Debian: libnbd-bin), and `cargo build --release`. Prints the times of 5
alternating rounds (or as many as the first argument says) and the ratio of the shortest. Ends with 1
where that is above 1.1.
"""

import os
import sys
import tempfile

import program
from servers import nbdkit, piped, timed

PROGRAM = program.path()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    mib = int(sys.argv[2]) if len(sys.argv) > 2 else 256
    with tempfile.TemporaryDirectory() as folder:
        disk = ["--filter=delay", "pattern", "%dM" % mib, "rdelay=50ms"]
        with nbdkit(os.path.join(folder, "socket"), "-r", *disk) as uri:
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(piped([PROGRAM, "backup", "--quiet", uri, "-"])[0])
                theirs.append(timed(["nbdcopy", "--connections=1", uri, "null:"])[0])
                print("nbd-extents %6.3f s  nbdcopy %6.3f s" % (ours[-1], theirs[-1]))
    ratio = min(ours) / min(theirs)
    print("ratio of the shortest %.2f  (at most 1.1)" % ratio)
    sys.exit(ratio > 1.1)


if __name__ == "__main__":
    main()
