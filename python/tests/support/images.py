"""Disk images, and qemu-nbd that exports them."""

import contextlib
import socket as sockets
import subprocess
import time


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def qemu_io(image, *commands, options=()):
    """Runs the commands of qemu-io on an image."""
    words = [word for command in commands for word in ("-c", command)]
    run("qemu-io", *options, *words, image)


def create(path, size, *, cluster="64k"):
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", path, size)


def add_bitmap(path, name, *options):
    run("qemu-img", "bitmap", "--add", *options, "-f", "qcow2", path, name)


@contextlib.contextmanager
def qemu_nbd(image, socket, *options, image_format="qcow2", read_only=True):
    """Exports an image on a unix socket while the block runs. The process is yielded."""
    words = ["qemu-nbd", "-f", image_format, "-t", "--shared=8", "-k", str(socket), *options]
    process = subprocess.Popen([*words, *(["-r"] if read_only else []), str(image)])
    try:
        while not is_listening(socket):
            assert process.poll() is None, "qemu-nbd has ended"
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


def is_listening(path):
    """Whether a client is accepted; the socket's file is there a moment earlier."""
    with sockets.socket(sockets.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def uri(socket, export=""):
    return f"nbd+unix:///{export}?socket={socket}"
