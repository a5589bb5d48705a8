#!/usr/bin/env python3
"""The flow of oVirt bug 1971185, from a full backup to a restored chain: the gain of asking for
zeroes along with the dirty bitmap.

A disk of 4 GiB gets 3 GiB of data, and an incremental backup is taken. The guest then zeroes these
3 GiB (`write -z`; with --discard a TRIM) and writes 480 small blocks all over them, as a file
system does with its metadata.

The next incremental is taken in two ways, which take turns for several rounds: by the dirty bitmap
alone, and by the bitmap and the zero status. The script prints how many times smaller and faster the
second way is. It restores the chain, the last incremental into a new qcow2 on its backing file, and
compares the disks. At the end it deletes the bitmap: an incremental is then refused, and a full one made.

Needs qemu-utils, `cargo build --release`, and 10 GiB in the folder for temporary files (TMPDIR).
A first argument gives another size of the data, in MiB.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import program

ROUNDS = 5
BLOCKS = 480
PROGRAM = program.path()


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


def qemu_io(disk, commands):
    run(
        "qemu-io", "--cache=unsafe", "-f", "qcow2", disk, input="\n".join(commands) + "\n",
        text=True, stdout=subprocess.DEVNULL,
    )


class Server:
    """qemu-nbd on a unix socket, for a `with`."""

    def __init__(self, disk, *options):
        self.socket = disk + ".sock"
        self.command = ["qemu-nbd", "-t", "-e", "8", "-f", "qcow2", "-k", self.socket, *options, disk]

    def __enter__(self):
        self.child = subprocess.Popen(self.command)
        while not os.path.exists(self.socket):
            time.sleep(0.02)
        return "nbd+unix:///?socket=" + self.socket

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()
        if os.path.exists(self.socket):
            os.remove(self.socket)


def run_backup(uri, to, *options):
    """Returns the seconds and the report; on failure, the exit code and the message."""
    beside = os.path.join(tempfile.gettempdir(), "report-%d" % os.getpid())
    report = beside if to == os.devnull else to + ".report"
    start = time.monotonic()
    done = subprocess.run(
        [PROGRAM, "backup", *options, "--report", report, uri, to],
        stderr=subprocess.PIPE, text=True,
    )
    seconds = time.monotonic() - start
    if done.returncode != 0:
        return done.returncode, done.stderr.strip()
    with open(report) as file:
        result = json.load(file)
    os.remove(report)
    return seconds, result


def back_up(uri, to, *options):
    seconds, report = run_backup(uri, to, *options)
    if isinstance(report, str):
        sys.exit(report)
    return seconds, report


def restore(disk, *arguments):
    with Server(disk, "--cache=unsafe") as uri:
        run(PROGRAM, "restore", uri, *arguments)


def compare_ways(uri):
    """Runs both ways in turn; returns the medians of the seconds, and a report of each."""
    ways = {"dirty only": ["--bitmap", "b2", "--ignore-zero-status"], "dirty and zero": ["--bitmap", "b2"]}
    times, reports = {way: [] for way in ways}, {}
    for _ in range(ROUNDS):
        for way, options in ways.items():
            seconds, reports[way] = back_up(uri, os.devnull, *options)
            times[way].append(seconds)
    seconds = {way: statistics.median(times[way]) for way in ways}
    print("%-16s %10s %14s %16s" % ("incremental 2", "seconds", "on the wire", "stream, bytes"))
    for way in ways:
        report = reports[way]
        print("%-16s %10.3f %14d %16d" % (way, seconds[way], report["received"], report["stream"]))
    a, b = ways
    ratio = lambda key: reports[a][key] / reports[b][key]
    ratios = (seconds[a] / seconds[b], ratio("received"), ratio("stream"))
    print("%-16s %9.1fx %13.1fx %15.1fx" % ("times better", *ratios))


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--discard"]
    discard = "--discard" in sys.argv
    mib = int(arguments[0]) if arguments else 3072
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        disk = path("disk.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", disk, "%dM" % (mib + 1024))
        qemu_io(disk, ["write -q -P 1 0 16M"])
        with Server(disk, "-r") as uri:
            back_up(uri, path("full"), "--checkpoint", "full")

        run("qemu-img", "bitmap", "--add", disk, "b1")
        qemu_io(disk, ["write -q -P %d %dM 64M" % (n % 250 + 2, 16 + n * 64) for n in range(mib // 64)])
        with Server(disk, "-r", "-B", "b1") as uri:
            seconds, report = back_up(
                uri, path("first"), "--bitmap", "b1", "--checkpoint", "b1", "--after", path("full")
            )
        print("incremental 1    %10.3f %14d %16d  the data" % (seconds, report["received"], report["stream"]))

        run("qemu-img", "bitmap", "--disable", disk, "b1")
        run("qemu-img", "bitmap", "--add", disk, "b2")
        word = "discard -q" if discard else "write -q -z"
        zeroes = ["%s %dM 64M" % (word, 16 + n * 64) for n in range(mib // 64)]
        step = (mib << 20) // BLOCKS >> 16 << 16
        qemu_io(disk, zeroes + ["write -q -P 255 %d 4k" % ((16 << 20) + n * step) for n in range(BLOCKS)])
        with Server(disk, "-r", "-B", "b2") as uri:
            compare_ways(uri)
            back_up(uri, path("second"), "--bitmap", "b2", "--checkpoint", "b2", "--after", path("first"))
        run(PROGRAM, "verify", path("full"), path("first"), path("second"))

        base, overlay = path("base.qcow2"), path("restored.qcow2")
        run("qemu-img", "create", "-q", "-f", "qcow2", base, "%dM" % (mib + 1024))
        restore(base, path("full"), path("first"))
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
        restore(overlay, path("second"), "--base", "b1")
        run("qemu-img", "compare", disk, overlay)

        run("qemu-img", "bitmap", "--remove", disk, "b2")
        with Server(disk, "-r") as uri:
            code, reason = run_backup(uri, path("third"), "--bitmap", "b2")
            if code != 3:
                sys.exit("exit code %s where the bitmap is gone" % code)
            print("no incremental of the disk without its bitmap: %s" % reason)
            back_up(uri, path("third"))
        run(PROGRAM, "verify", path("third"))


if __name__ == "__main__":
    main()
