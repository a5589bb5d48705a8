"""Servers for the scripts beside this file, and the time that a program takes on them."""

import os
import subprocess
import sys
import time


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


def timed(command, stdout=subprocess.DEVNULL):
    """Wall seconds, and processor seconds, of a command that has to end well."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=stdout)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit("%s: exit %d" % (" ".join(command), child.returncode))
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime


def piped(command):
    """The time of a command whose output somebody reads."""
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    result = timed(command, reader.stdin)
    reader.stdin.close()
    reader.wait()
    return result
