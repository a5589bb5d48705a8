"""The tests of a running virtual machine: libvirt's pull mode around the program.

`run` starts this in the folder that `setup` has made. The guest has no operating system: qemu's
monitor writes to its disks, as its processor would. What a disk held when a backup began is kept as
a frozen copy, and is the judge.
"""
import contextlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

HERE = pathlib.Path("/test")
WORK = HERE / "work"
VIRSH = ["virsh", "-c", "qemu:///system"]
DISKS = {"vda": ("qcow2", 200 << 20), "vdb": ("qcow2", (33 << 20) + 512), "vdc": ("raw", 16 << 20)}
GUEST = "guest"


def run(*words, code=0, **more):
    """Runs a program, which must end with `code`; returns its output and its messages."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def virsh(*words):
    return run(*VIRSH, *words)


class Guest:
    """A domain with the disks of DISKS, all zero at first."""

    def __init__(self, disks=DISKS):
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir()
        self.disks = disks
        entries = ""
        for name, (kind, size) in disks.items():
            run("qemu-img", "create", "-q", "-f", kind, self.image(name), size)
            entries += f"""<disk type='file' device='disk'><driver name='qemu' type='{kind}'
                discard='unmap'/><source file='{self.image(name)}'/><target dev='{name}' bus='virtio'/>
                <alias name='ua-{name}'/></disk>"""
        (WORK / "guest.xml").write_text(f"""<domain type='qemu'><name>{GUEST}</name>
            <memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os>
            <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{entries}</devices></domain>""")
        virsh("define", WORK / "guest.xml")
        virsh("start", GUEST)

    def image(self, disk):
        return WORK / f"{disk}.{self.disks[disk][0]}"

    def io(self, disk, command):
        device = f"/machine/peripheral/ua-{disk}/virtio-backend"
        said = virsh("qemu-monitor-command", GUEST, "--hmp", f'qemu-io -d {device} "{command}"')
        assert not {"failed", "error"} & set(said.lower().replace(":", " ").split()), f"{command}: {said}"

    def scribble(self, disk, count, seed):
        """Random writes, zeroes and discards of whole sectors."""
        rng = random.Random(seed)
        size = self.disks[disk][1] // 512
        for _ in range(count):
            start = rng.randrange(size)
            length = min(rng.choice([1, 8, 128, 300, 2048]), size - start)
            write = f"write -q -P {rng.randrange(1, 256)}"
            command = rng.choice([write, "write -q -z", "write -q -z -u", "discard -q"])
            self.io(disk, f"{command} {start * 512} {length * 512}")

    def freeze(self, folder):
        """Copies what every disk holds now."""
        folder.mkdir()
        for disk in self.disks:
            self.io(disk, "flush")
            formats = ["-f", self.disks[disk][0], "-O", "raw"]
            run("qemu-img", "convert", "-U", *formats, self.image(disk), folder / disk)

    @staticmethod
    def destroy():
        subprocess.run([*VIRSH, "destroy", GUEST], capture_output=True)
        subprocess.run([*VIRSH, "undefine", GUEST, "--checkpoints-metadata"], capture_output=True)


@contextlib.contextmanager
def guest(disks=DISKS):
    machine = Guest(disks)
    try:
        yield machine
    finally:
        machine.destroy()


@contextlib.contextmanager
def writable(image, kind="raw"):
    """Serves an image that may be written, and yields its URI."""
    socket = f"{image}.sock"
    server = subprocess.Popen(["qemu-nbd", "-t", "-e", "8", "-f", kind, "-k", socket, str(image)])
    try:
        while not os.path.exists(socket):
            time.sleep(0.02)
        yield f"nbd+unix:///?socket={socket}"
    finally:
        server.terminate()
        server.wait()


def pull(*words, code=0, program=None, **more):
    """Runs pull_backup.py; `program` stands in for nbd-extents."""
    env = dict(os.environ, NBD_EXTENTS=str(program or "nbd-extents"))
    return run("python3", HERE / "pull_backup.py", *words, code=code, env=env, **more)


def slow_program(name, before="", after=""):
    """A program that does something before or after it does the work of nbd-extents."""
    path = WORK / name
    path.write_text(f'#!/bin/sh\n{before}\nnbd-extents "$@" || exit\n{after}\n')
    path.chmod(0o755)
    return path


def during(machine, seed, until):
    """Writes to the disks from another thread, once the job runs, until it has ended."""

    def work():
        # libvirt reports an error while the job starts
        asked = [*VIRSH, "domjobinfo", GUEST]
        while b"Backup" not in subprocess.run(asked, capture_output=True).stdout and not until.is_set():
            time.sleep(0.02)
        for turn in range(1000):
            if until.is_set():
                break
            for disk in machine.disks:
                machine.scribble(disk, 3, f"{seed} {disk} {turn}")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def whole_folders(state):
    return sorted(path.name for path in state.iterdir() if path.is_dir())


def backups_restore_to_what_the_guest_had():
    """A full backup and three incrementals, with writes before and during each; and replicas."""
    state, replica = WORK / "backups", WORK / "replica"
    with guest() as machine, contextlib.ExitStack() as servers:
        replica.mkdir()
        for disk, (_, size) in DISKS.items():
            run("truncate", "-s", size, replica / disk)
            servers.enter_context(writable(replica / disk))
        copies = f"nbd+unix:///?socket={replica}/{{disk}}.sock"
        for turn in range(4):
            for disk in DISKS:
                machine.scribble(disk, 12, f"before {turn} {disk}")
            for action in ("backup", "copy"):
                frozen = WORK / f"frozen-{action}-{turn}"
                machine.freeze(frozen)
                until = threading.Event()
                writer = during(machine, f"{action} {turn}", until)
                slow = slow_program("slow", before="sleep 1")
                if action == "backup":
                    pull("backup", GUEST, state, program=slow)
                else:
                    pull("copy", GUEST, copies, "--state", WORK / "replicated", program=slow)
                until.set()
                writer.join()
                if action == "copy":
                    for disk in DISKS:
                        compare(replica / disk, frozen / disk)
                time.sleep(1.1)  # names of checkpoints are whole seconds
        for turn in range(4):
            restored_is(state, turn, WORK / f"frozen-backup-{turn}")


def compare(left, right):
    run("qemu-img", "compare", "-U", "-f", "raw", "-F", "raw", left, right)


def restored_is(state, turn, frozen):
    """Restores the backups up to `turn` onto targets full of other bytes, and compares."""
    names = whole_folders(state)[: turn + 1]
    for disk, (kind, size) in DISKS.items():
        files = [state / name / disk for name in names] if kind == "qcow2" else [state / names[-1] / disk]
        target = WORK / f"restored-{disk}"
        target.write_bytes(b"\xee" * size)
        run("nbd-extents", "verify", *files)
        with writable(target) as uri:
            run("nbd-extents", "restore", uri, *files)
        compare(target, frozen / disk)


def a_run_that_is_not_whole_leaves_nothing_that_looks_whole():
    """Job aborted before and after the data, domain killed, scratch full, checkpoint lost."""
    state = WORK / "backups"
    with guest() as machine:
        for disk in DISKS:
            machine.scribble(disk, 20, f"first {disk}")
        machine.io("vda", "write -q -P 6 0 40M")  # what qemu must keep when the guest overwrites it
        first = pull("backup", GUEST, state).strip()
        machine.scribble("vda", 20, "second")

        abort = f"{' '.join(VIRSH)} domjobabort {GUEST} >/dev/null 2>&1 || true; sleep 1"
        for program in (slow_program("early", before=abort), slow_program("late", after=abort)):
            refused(state, first, pull("backup", GUEST, state, code=1, program=program))

        scratch_full(machine, state, first)

        time.sleep(1.1)
        frozen = WORK / "frozen"
        machine.freeze(frozen)
        pull("backup", GUEST, state)  # the changes of the failed runs are in it
        restored_is(state, len(whole_folders(state)) - 1, frozen)

        before = whole_folders(state)
        virsh("checkpoint-delete", GUEST, before[-1])
        time.sleep(1.1)
        said = pull("backup", GUEST, state, code=1)
        assert before[-1] in said and whole_folders(state) == before, said
        pull("backup", GUEST, state, "--full")

        before = whole_folders(state)
        kill = f"{' '.join(VIRSH)} destroy {GUEST} >/dev/null; sleep 1"
        time.sleep(1.1)
        pull("backup", GUEST, state, code=1, program=slow_program("kill", before=kill))
        assert whole_folders(state) == before


def scratch_full(machine, state, first):
    """qemu cannot keep what the guest overwrites. It fails the guest's writes then, and the view stays
    frozen; a qemu that ends the job instead must make the run fail."""
    scratch, frozen = WORK / "scratch", WORK / "frozen-scratch"
    scratch.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2M", "tmp", scratch)
    device = "/machine/peripheral/ua-vda/virtio-backend"
    monitor = f"{' '.join(VIRSH)} qemu-monitor-command {GUEST} --hmp"
    write = f"{monitor} 'qemu-io -d {device} \"write -q -P 7 '$n'M 1M\"'"
    fill = f"for n in $(seq 0 39); do {write} >/dev/null; done; df {scratch} >&2"
    program = slow_program("full", before=fill)
    machine.freeze(frozen)
    env = dict(os.environ, NBD_EXTENTS=str(program))
    command = ["python3", HERE / "pull_backup.py", "backup", GUEST, state, "--scratch", scratch]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    run("umount", scratch)
    assert "100%" in done.stderr, done.stderr
    if done.returncode == 0:
        print("    scratch full: the backup is whole")
        restored_is(state, len(whole_folders(state)) - 1, frozen)
    else:
        print("    scratch full:", done.stderr.strip().splitlines()[-1])
        refused(state, first, done.stderr)


def refused(state, first, said):
    assert "pull_backup: " in said, said
    assert whole_folders(state) == [first], whole_folders(state)
    assert virsh("checkpoint-list", GUEST, "--name").split() == [first]
    time.sleep(1.1)


def an_output_that_stalls_slows_neither_the_guest_nor_the_abort():
    """findings.md, A5: nobody reads the backup's output, and the guest and the job do not notice."""
    with guest() as machine:
        for start in range(0, 200, 50):
            machine.io("vda", f"write -q -P 5 {start}M 50M")
        (WORK / "job.xml").write_text(f"""<domainbackup mode='pull'>
            <server transport='unix' socket='{WORK}/nbd.sock'/>
            <disks><disk name='vda' backup='yes' type='file'><scratch file='{WORK}/scratch-vda'/></disk>
            <disk name='vdb' backup='no'/><disk name='vdc' backup='no'/></disks></domainbackup>""")
        virsh("backup-begin", GUEST, WORK / "job.xml")
        backup = subprocess.Popen(["nbd-extents", "backup", f"nbd+unix:///vda?socket={WORK}/nbd.sock", "-",
                                   "--connections", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(3)  # by now its output is full
        slowest = 0.0
        for turn in range(40):
            begun = time.monotonic()
            machine.io("vda", f"write -q -P {turn + 1} {turn * 5}M 64k")
            slowest = max(slowest, time.monotonic() - begun)
        begun = time.monotonic()
        virsh("domjobabort", GUEST)
        abort = time.monotonic() - begun
        print(f"    slowest of 40 guest writes {slowest:.2f} s, domjobabort {abort:.2f} s")
        assert slowest < 2 and abort < 2
        with backup.stdout:
            backup.stdout.read()
        assert backup.wait() == 4, backup.stderr.read()


def the_flow_of_the_bug():
    """Bug 1971185: write 1 GiB, back up, zero all but 28 MiB of it, back up: by bitmap, and merged."""
    with guest({"vda": ("qcow2", 6 << 30)}) as machine:
        state = WORK / "backups"
        first = pull("backup", GUEST, state).strip()
        for start in range(1024, 2048, 64):
            machine.io("vda", f"write -q -P 9 {start}M 64M")
        machine.io("vda", "write -q -z -u 1052M 996M")
        figures = {}
        for name, more in (("by the bitmap alone", ["--ignore-zero-status"]), ("merged", [])):
            (WORK / "job.xml").write_text(f"""<domainbackup mode='pull'><incremental>{first}</incremental>
                <server transport='unix' socket='{WORK}/nbd.sock'/>
                <disks><disk name='vda' backup='yes' type='file'>
                <scratch file='{WORK}/scratch'/></disk></disks>
                </domainbackup>""")
            virsh("backup-begin", GUEST, WORK / "job.xml")
            begun = time.monotonic()
            run("nbd-extents", "backup", f"nbd+unix:///vda?socket={WORK}/nbd.sock", WORK / "inc", "--bitmap",
                "backup-vda", "--checkpoint", "second", "--after", state / first / "vda", *more)
            figures[name] = (time.monotonic() - begun, (WORK / "inc").stat().st_size)
            virsh("domjobabort", GUEST)
            for left in ("nbd.sock", "scratch"):
                (WORK / left).unlink(missing_ok=True)
        (slow, large), (fast, small) = figures.values()
        print(f"    {json.dumps(figures)}: {slow / fast:.1f} times faster, {large / small:.1f} times smaller")
        assert slow >= 2 * fast and large >= 36 * small


def a_backup_over_tls_is_the_backup_in_plaintext():
    """libvirt demands a certificate of the client, and gets it; without one there is no backup."""
    with guest() as machine:
        machine.scribble("vda", 30, "tls")
        machine.freeze(WORK / "frozen")
        (WORK / "job.xml").write_text(f"""<domainbackup mode='pull'>
            <server transport='tcp' tls='yes' name='localhost' port='10890'/>
            <disks><disk name='vda' backup='yes' type='file'><scratch file='{WORK}/scratch-vda'/></disk>
            <disk name='vdb' backup='no'/><disk name='vdc' backup='no'/></disks></domainbackup>""")
        virsh("backup-begin", GUEST, WORK / "job.xml")
        uri = "nbds://localhost:10890/vda?tls-certificates="
        run("nbd-extents", "backup", f"{uri}{HERE}/pki", WORK / "full")
        (WORK / "nobody").mkdir()
        shutil.copy(HERE / "pki/ca-cert.pem", WORK / "nobody")
        said = run("nbd-extents", "backup", f"{uri}{WORK}/nobody", WORK / "none", code=4)
        print("   ", said.strip())
        said = run("nbd-extents", "backup", "nbd://localhost:10890/vda", WORK / "none", code=4)
        print("   ", said.strip())
        virsh("domjobabort", GUEST)
        target = WORK / "restored"
        run("truncate", "-s", DISKS["vda"][1], target)
        with writable(target) as restored:
            run("nbd-extents", "restore", restored, WORK / "full")
        compare(target, WORK / "frozen" / "vda")


TESTS = [
    backups_restore_to_what_the_guest_had,
    a_run_that_is_not_whole_leaves_nothing_that_looks_whole,
    an_output_that_stalls_slows_neither_the_guest_nor_the_abort,
    a_backup_over_tls_is_the_backup_in_plaintext,
    the_flow_of_the_bug,
]


def main():
    daemon = subprocess.Popen(["libvirtd"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while subprocess.run([*VIRSH, "version"], capture_output=True).returncode != 0:
            time.sleep(0.2)
        print(virsh("version").strip())
        Guest.destroy()  # of a run that was killed
        for test in TESTS:
            if sys.argv[1:] and test.__name__ not in sys.argv[1:]:
                continue
            print(f"{test.__name__}: {test.__doc__.strip()}", flush=True)
            test()
            print("    passed", flush=True)
    finally:
        daemon.terminate()
        daemon.wait()


main()
