#!/usr/bin/env python3
"""Times `nbd-extents backup` of a disk full of data beside nbdcopy with one connection.

Both read the same export of the same qemu-nbd: nbd-extents writes a stream to /dev/null, nbdcopy
writes to null:. The disk has 2 GiB of data (or as many MiB as the first argument says) and lies in
the page cache.

Needs qemu-utils and nbdcopy (Debian: libnbd-bin), and `cargo build --release`. Prints medians of 5
interleaved rounds, their ratio, and the peak memory of both.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import program

ROUNDS = 5
PROGRAM = program.path()


def make_disk(path, mib):
    block = os.urandom(1 << 20)
    with open(path, "wb") as disk:
        for _ in range(mib):
            disk.write(block)


def timed(command):
    """Wall seconds, and peak memory in MiB."""
    start = time.monotonic()
    with open(os.devnull, "w") as null:
        child = subprocess.Popen(command, stdout=null)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit("%s: exit %d" % (" ".join(command), child.returncode))
    return time.monotonic() - start, usage.ru_maxrss / 1024


def main():
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    with tempfile.TemporaryDirectory() as folder:
        disk, socket = os.path.join(folder, "disk"), os.path.join(folder, "s")
        make_disk(disk, mib)
        server = subprocess.Popen(["qemu-nbd", "-r", "-t", "-e", "8", "-f", "raw", "-k", socket, disk])
        try:
            while not os.path.exists(socket):
                time.sleep(0.05)
            uri = "nbd+unix:///?socket=" + socket
            ours = [PROGRAM, "backup", uri, os.devnull]
            theirs = ["nbdcopy", "--connections=1", uri, "null:"]
            timed(ours), timed(theirs)  # the server's caches
            rounds = [(timed(ours), timed(theirs)) for _ in range(ROUNDS)]
        finally:
            server.terminate()
            server.wait()
    a = statistics.median(round[0][0] for round in rounds)
    b = statistics.median(round[1][0] for round in rounds)
    print("nbd-extents backup       %.3f s  peak %4.0f MiB" % (a, max(round[0][1] for round in rounds)))
    print("nbdcopy, one connection  %.3f s  peak %4.0f MiB" % (b, max(round[1][1] for round in rounds)))
    print("ratio                    %.2f" % (a / b))


if __name__ == "__main__":
    main()
