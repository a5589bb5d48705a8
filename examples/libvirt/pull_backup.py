#!/usr/bin/env python3
"""Backs up, or replicates, all disks of a running libvirt domain in pull mode, each disk at once.

    pull_backup.py backup guest /var/backups/guest
    pull_backup.py copy   guest 'nbd+unix:///{disk}?socket=/run/replica.sock' --state /var/lib/replica

A run makes a checkpoint of the domain and starts a backup job; libvirt then serves a frozen view of
each disk. `backup` writes one folder for each checkpoint, with a file for each disk; `copy` brings
the disk {disk} of the target up to date. The first run takes everything. Later runs take the changes
since the last run that was whole; a disk without a bitmap, such as a raw one, they take whole.
A run that fails leaves nothing that looks whole: no folder, and no checkpoint. Its changes are part
of the next run, since libvirt gives them back to the checkpoint before.

Exit codes: 0 whole; 1 not whole, and the messages say why; 2 wrong usage.
"""
import argparse
import datetime
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET

PROGRAM = os.environ.get("NBD_EXTENTS", "nbd-extents")
VIRSH = ["virsh", "-c", os.environ.get("LIBVIRT_URI", "qemu:///system")]


class Failed(Exception):
    """The run is not whole; the text says why."""


def virsh(*words):
    done = subprocess.run([*VIRSH, *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"virsh {words[0]}: {done.stderr.strip()}")
    return done.stdout


def disks_of(domain):
    """The disks that a guest can write, as {target name: does it keep a bitmap}."""
    disks = {}
    for disk in ET.fromstring(virsh("dumpxml", domain)).iterfind("devices/disk[@device='disk']"):
        if disk.find("readonly") is None and disk.find("source") is not None:
            disks[disk.find("target").get("dev")] = disk.find("driver").get("type") == "qcow2"
    if not disks:
        raise Failed(f"{domain} has no disk to back up")
    return disks


def checkpoint_xml(name, disks):
    top = ET.Element("domaincheckpoint")
    ET.SubElement(top, "name").text = name
    listed = ET.SubElement(top, "disks")
    for disk, has_bitmap in disks.items():
        ET.SubElement(listed, "disk", name=disk, checkpoint="bitmap" if has_bitmap else "no")
    return ET.tostring(top, encoding="unicode")


def backup_xml(disks, parent, socket, scratch):
    """The job: `parent` is the checkpoint that incrementals stand on, or None."""
    top = ET.Element("domainbackup", mode="pull")
    ET.SubElement(top, "server", transport="unix", socket=str(socket))
    listed = ET.SubElement(top, "disks")
    for disk, has_bitmap in disks.items():
        kind = {"backupmode": "full"}
        if parent and has_bitmap:
            kind = {"backupmode": "incremental", "incremental": parent, "exportbitmap": f"backup-{disk}"}
        entry = ET.SubElement(listed, "disk", name=disk, backup="yes", type="file", **kind)
        ET.SubElement(entry, "scratch", file=str(scratch / disk))
    return ET.tostring(top, encoding="unicode")


class Job:
    """A backup job of libvirt with its checkpoint: `with` ends the job, whatever happens inside."""

    def __init__(self, domain, disks, parent, name, scratch):
        self.domain, self.name = domain, name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{domain}-{name}-", dir=scratch))
        self.socket = self.folder / "nbd.sock"
        (self.folder / "checkpoint.xml").write_text(checkpoint_xml(name, disks))
        (self.folder / "backup.xml").write_text(backup_xml(disks, parent, self.socket, self.folder))

    def __enter__(self):
        try:
            virsh("backup-begin", self.domain, self.folder / "backup.xml", self.folder / "checkpoint.xml")
        except Failed:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(self, *_error):
        subprocess.run([*VIRSH, "domjobabort", self.domain], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def check(self):
        """Fails unless the job still runs: else its data may be newer than the checkpoint."""
        if "Backup" not in virsh("domjobinfo", self.domain):
            raise Failed("libvirt has ended the job before everything was read")

    def uri(self, disk):
        return f"nbd+unix:///{disk}?socket={self.socket}"


def run_all(commands):
    """Runs one command for each disk, all at once, and fails when one of them fails."""
    running = {disk: subprocess.Popen([PROGRAM, *words]) for disk, words in commands.items()}
    codes = {disk: process.wait() for disk, process in running.items()}
    failed = [f"{disk} (exit code {code})" for disk, code in codes.items() if code != 0]
    if failed:
        raise Failed(f"not whole: {', '.join(failed)}")


def backup_command(job, disk, folder, before):
    """The words of `nbd-extents backup`; `before` is the disk's file of the last run, or None."""
    words = ["backup", job.uri(disk), str(folder / disk), "--checkpoint", job.name]
    if before:
        words += ["--bitmap", f"backup-{disk}", "--after", str(before), "--grown"]
    return words


def copy_command(job, disk, target, incremental):
    words = ["copy", job.uri(disk), target.replace("{disk}", disk)]
    return words + (["--bitmap", f"backup-{disk}"] if incremental else [])


def back_up(job, disks, parent, state):
    """Writes the folder of this checkpoint, which gets its name when all disks are whole."""
    partial = state / f"{job.name}.partial"
    partial.mkdir()
    try:
        run_all({
            disk: backup_command(job, disk, partial, state / parent / disk if parent and has_bitmap else None)
            for disk, has_bitmap in disks.items()
        })
        job.check()
        partial.rename(state / job.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy(job, disks, parent, target):
    run_all({
        disk: copy_command(job, disk, target, parent is not None and has_bitmap)
        for disk, has_bitmap in disks.items()
    })
    job.check()


def run(options):
    """One run; returns the name of its checkpoint, which the next run starts from."""
    disks = disks_of(options.domain)
    state = pathlib.Path(options.state)
    state.mkdir(parents=True, exist_ok=True)
    last = state / "last"
    parent = last.read_text().strip() if last.exists() and not options.full else None
    name = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")

    job = Job(options.domain, disks, parent, name, options.scratch)
    try:
        with job:
            if options.action == "backup":
                back_up(job, disks, parent, state)
            else:
                copy(job, disks, parent, options.target)
    except BaseException:
        # libvirt adds the changes of a deleted checkpoint to the one before it
        subprocess.run([*VIRSH, "checkpoint-delete", options.domain, name], capture_output=True)
        raise
    write_whole(last, name)
    if parent:
        virsh("checkpoint-delete", options.domain, parent)
    return name


def write_whole(path, text):
    """Replaces a small file, so that a crash leaves the old text or the new one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as new:
        new.write(text + "\n")
        new.flush()
        os.fsync(new.fileno())
    os.replace(new.name, path)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    backup = actions.add_parser("backup", help="one file for each disk below FOLDER/CHECKPOINT")
    backup.add_argument("domain")
    backup.add_argument("state", metavar="FOLDER")
    copy = actions.add_parser("copy", help="onto the export of each disk")
    copy.add_argument("domain")
    copy.add_argument("target", help="the URI of a target, with {disk} where the disk's name goes")
    copy.add_argument("--state", required=True, help="the folder that remembers the last copy")
    for action in (backup, copy):
        action.add_argument("--full", action="store_true", help="everything, whatever came before")
        action.add_argument("--scratch", help="where qemu keeps what the guest overwrites meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        print(run(arguments()))
    except Failed as error:
        sys.exit(f"pull_backup: {error}")
