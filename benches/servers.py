"""Servers for the scripts beside this file, and the time that a program takes on them."""

import os
import statistics
import subprocess
import sys
import time
from collections import namedtuple

ROUNDS = 5


class Server:
    """A server on a unix socket, ended with the block that uses it."""

    def __init__(self, socket, command):
        self.uri = "nbd+unix:///?socket=" + socket
        self.child = subprocess.Popen(command)
        while not os.path.exists(socket):
            if self.child.poll() is not None:
                sys.exit("%s ended" % " ".join(command))
            time.sleep(0.02)

    def __enter__(self):
        return self.uri

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()


def nbdkit(socket, *arguments):
    return Server(socket, ["nbdkit", "--foreground", "--exit-with-parent", "-U", socket, *arguments])


def qemu_nbd(socket, *arguments):
    """For a disk that is only read."""
    return Server(socket, ["qemu-nbd", "-r", "-t", "-e", "16", "-k", socket, *arguments])


# Wall seconds, processor seconds, and peak memory in MiB.
Usage = namedtuple("Usage", "wall processor peak")


def measured(command, stdout=subprocess.DEVNULL):
    """The usage of a command that has to end well."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=stdout)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit("%s: exit %d" % (" ".join(command), child.returncode))
    return Usage(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def timed(command, stdout=subprocess.DEVNULL):
    """Wall seconds, and processor seconds, of a command that has to end well."""
    return measured(command, stdout)[:2]


def piped(command):
    """The time of a command whose output somebody reads."""
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    result = timed(command, reader.stdin)
    reader.stdin.close()
    reader.wait()
    return result


def compare(ours, theirs):
    """Prints the median times of two tasks in alternating rounds, their peak memory, and the ratio.

    A task is a name and the commands that are run for it, one after the other.
    """
    tasks = [ours, theirs]
    for _, commands in tasks:  # the server's caches
        for command in commands:
            measured(command)
    walls, peaks = ([], []), [0, 0]
    for _ in range(ROUNDS):
        for nth, (_, commands) in enumerate(tasks):
            usages = [measured(command) for command in commands]
            walls[nth].append(sum(usage.wall for usage in usages))
            peaks[nth] = max([peaks[nth], *(usage.peak for usage in usages)])
    medians = [statistics.median(wall) for wall in walls]
    for (name, _), median, peak in zip(tasks, medians, peaks):
        print("%-24s %.3f s  peak %4.0f MiB" % (name, median, peak))
    print("%-24s %.2f" % ("ratio", medians[0] / medians[1]))
