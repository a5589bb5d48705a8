#!/usr/bin/env python3
"""Would a test notice a fault?

Tries cargo-mutants' mutants of the modules in which a silent fault loses data.

    ci/mutants [MODULE...]          all mutants of these modules (default: of all), which takes hours
    ci/mutants --sample N [MODULE...]   N of them, the same N each time

A mutant that no test catches must stand in tests/mutants/survivors.md with its reason, or the run fails. So
does a module of which less than 95% are caught. `--list` prints the modules, `--write` adds what survived to
the file, to be explained there. At its end the run counts what it did not try, by reason.

All mutants are compiled into one set of test programs (rewrite.py), which run once for each mutant with its
number in the environment: first the unit tests, then the other programs with the mutants that are left. A
mutant is caught when a test fails, takes five times the processor time that it takes without it, or waits for
far longer. Only tests that reach the mutated function run, the fastest first. A test over a socket, which can
fail on a busy machine, has to fail twice.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

import listing
import rewrite
from modules import CRATES, MODULES, ROOT, SOCKETS, TREE, WORK

WRAPPER = ROOT / "tests/mutants/rustc"
SURVIVORS = ROOT / "tests/mutants/survivors.md"
FLOOR = 95
# why a mutant is not tried
UNVIABLE = "mutants that do not compile"
UNSWITCHED = "mutants of functions whose body does not compile inside of a match"
# bytes of address space, so that a mutant that grows without end fails soon
MEMORY = 8 << 30
# Fewer random cases than CI's: each mutant runs them anew.
SETTINGS = {"PROPTEST_CASES": "64", "BACKUP_ROUNDS": "40", "RUST_BACKTRACE": "0"}
# Each case of this program runs each kernel of the processor on every form of descriptors.
CASES = {"kernel": "16"}


def say(*words):
    print(*words, flush=True)


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def write_mutants(mutants, left_out):
    """Writes the switched sources into the copy."""
    by_file = collections.defaultdict(list)
    for mutant in mutants:
        by_file[mutant.file].append(mutant)
    for package, folder in CRATES.items():
        root = f"{folder}/lib.rs"
        source = (ROOT / root).read_text()
        (TREE / root).write_text(rewrite.with_switch(source))
    for file, its in by_file.items():
        text = rewrite.switched((ROOT / file).read_text(), its, left_out)
        # arms within arms: inlined code would be compiled once for each pair of mutants
        write_if_new(TREE / file, re.sub(r"#\[inline(\(always\))?\]", "#[inline(never)]", text))


def write_if_new(path, text):
    if path.read_text() != text:
        path.write_text(text)


def cargo(*arguments):
    """Runs cargo on the copy, with what the project's own builds have left of other crates."""
    environment = {**os.environ, "RUSTC_WORKSPACE_WRAPPER": str(WRAPPER),
                   "CARGO_TARGET_DIR": str(ROOT / "target")}
    # crates with mutants are to compile quickly, those that make random cases to run quickly
    quick = [f"--config=profile.dev.package.{package}.opt-level=1" for package in ("proptest", "rand_chacha")]
    return run("cargo", *arguments, *quick, "--message-format=json", cwd=TREE, env=environment)


def messages(output):
    for line in output.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def arguments_of(mutants, with_units):
    """The packages and the test programs of the mutants, as arguments of cargo."""
    modules = {mutant.module for mutant in mutants}
    packages = sorted({MODULES[module][0] for module in modules})
    tests = sorted({test for module in modules for test in MODULES[module][2]})
    # the kernels of the library's feature `simd`; the others are built as their tests are
    features = ["--all-features"] if packages == ["nbd-extents"] else []
    return [*features, *(argument for package in packages for argument in ("-p", package)),
            *(["--lib"] if with_units else [argument for test in tests for argument in ("--test", test)])]


def refused(output, by_number):
    """The mutants that the compiler's errors are about, by number, with the reason to leave them out."""
    found = {}
    for message in messages(output):
        if message.get("reason") != "compiler-message" or message["message"]["level"] != "error":
            continue
        for span in message["message"]["spans"]:
            path = TREE / span["file_name"]
            if not span["is_primary"] or not path.is_file():
                continue
            source = path.read_text()
            number = rewrite.mutant_of_line(source, span["line_start"])
            if number is not None:
                found.setdefault(number, UNVIABLE)
            elif first := rewrite.function_of_line(source, span["line_start"]):
                # the plain body does not compile inside a match
                at = (by_number[first].file, by_number[first].function)
                its = (n for n, other in by_number.items() if (other.file, other.function) == at)
                found |= dict.fromkeys(its, UNSWITCHED)
    return found


def fingerprint(mutant):
    """Equal for a mutant that is the same as in an earlier run."""
    content = (ROOT / mutant.file).read_bytes() + pathlib.Path(rewrite.__file__).read_bytes()
    return f"{hashlib.sha256(content).hexdigest()} {mutant.name}"


def compile_all(mutants, command, *targets):
    """Builds the targets with those mutants that compile: (cargo's output, the reasons of the others)."""
    by_number = {mutant.number: mutant for mutant in mutants}
    cache = WORK / "left_out.json"
    known = json.loads(cache.read_text()) if cache.exists() else {}
    prints = {n: fingerprint(mutant) for n, mutant in by_number.items()}
    left_out = {n: known[fingerprint] for n, fingerprint in prints.items() if fingerprint in known}
    for _ in range(40):
        write_mutants(mutants, left_out)
        output = cargo(*command, *targets)
        if output.returncode == 0:
            return output, left_out
        more = {n: reason for n, reason in refused(output, by_number).items() if n not in left_out}
        if not more:
            errors = [m["message"]["rendered"] for m in messages(output) if m["reason"] == "compiler-message"]
            sys.exit("the mutated tree does not compile:\n" + "".join(errors)[-4000:] + output.stderr[-2000:])
        left_out |= more
        known |= {prints[n]: reason for n, reason in more.items()}
        cache.write_text(json.dumps(known))
        say(f"  {len(left_out)} mutants do not compile")
    sys.exit("some mutants still do not compile")


def programs_of(output):
    """The test programs that cargo has built."""
    programs = []
    for message in messages(output):
        is_program = message.get("reason") == "compiler-artifact" and message.get("executable")
        if is_program and message["profile"]["test"]:
            folder = pathlib.Path(message["manifest_path"]).parent
            programs.append(Program(message["executable"], folder))
    return programs


@dataclasses.dataclass
class Test:
    """One test of a program: the time that it takes, and the functions that it reaches."""

    program: "Program"
    name: str
    # of the processor, and of the clock
    seconds: float
    waited: float
    reached: set


class Program:
    """A test program."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        self.name = re.sub(r"-[0-9a-f]{16}$", "", pathlib.Path(path).name)
        self.has_sockets = folder.name == SOCKETS and self.name != SOCKETS.replace("-", "_")

    def measure(self, pool):
        """Its tests that pass without a mutant, each run by itself."""
        listed = run(self.path, "--list", "--format", "terse", cwd=self.folder).stdout
        names = [line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test")]
        tests = list(pool.map(self.measure_one, names))
        for name, test in zip(names, tests):
            if test is None:
                say(f"  {self.name} {name} fails without a mutant and is left out")
        return [test for test in tests if test]

    def measure_one(self, name):
        with tempfile.NamedTemporaryFile() as reached:
            begun = time.monotonic()
            passes, seconds = self.call(0, [name], 600, 600, {"MUTANTS_REACHED": reached.name})
            waited = time.monotonic() - begun
            numbers = {int(line) for line in reached.read().split()}
        return Test(self, name, seconds, waited, numbers) if passes else None

    def call(self, mutant, tests, seconds, clock, more=None):
        """Whether these tests pass within `seconds` of the processor, and the time that they took.

        A mutant that loops is caught by the processor's time, which a busy machine does not change; one
        that waits for ever by the clock, which gets far more than the tests take.
        """
        environment = {**os.environ, **SETTINGS, **(more or {}),
                       "MUTANT": str(mutant), "RUSTC_BOOTSTRAP": "1",
                       "PROPTEST_CASES": CASES.get(self.name, SETTINGS["PROPTEST_CASES"]),
                       "CARGO_MANIFEST_DIR": str(self.folder)}
        limits = ["prlimit", f"--cpu={math.ceil(seconds)}", f"--as={MEMORY}", "--"]
        options = ["-q", "--test-threads=1", "-Zunstable-options", "--fail-fast", "--exact"]
        process = subprocess.Popen([*limits, self.path, *options, *tests], cwd=self.folder, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        timer = threading.Timer(clock, kill_group, [process.pid])
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            return status == 0, usage.ru_utime + usage.ru_stime
        finally:
            timer.cancel()
            # servers that a test left running are in its group
            kill_group(process.pid)


def kill_group(group):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def measure(programs, pool):
    """The tests of all programs that pass without a mutant."""
    tests = []
    for program in programs:
        its = program.measure(pool)
        say(f"  {program.name}: {len(its)} tests, {sum(test.seconds for test in its):.1f} s")
        tests += its
    return tests


def first_of_functions(mutants):
    """For each mutant, the number that its function records."""
    first = {}
    for mutant in mutants:
        first.setdefault((mutant.file, mutant.function), mutant.number)
    return {mutant.number: first[(mutant.file, mutant.function)] for mutant in mutants}


def batches(tests):
    """Tests that run in one process: those of one program that take about as long, the fastest first."""
    groups = collections.defaultdict(list)
    for test in tests:
        # 0 to 20 ms, to 80 ms, to 320 ms...
        groups[max(0, math.ceil(math.log(max(test.seconds, 1e-3) / 0.02, 4))), test.program.path].append(test)
    return [groups[key] for key in sorted(groups)]


def verdict(mutant, first, tests):
    """The program whose tests caught the mutant; `None` when none did.

    Only the tests that reach the function run; `first` is the number of the function's first mutant.
    """
    for batch in batches(test for test in tests if first in test.reached):
        program = batch[0].program
        limit = 2 + 5 * sum(test.seconds for test in batch)
        clock = 20 + limit + 5 * sum(test.waited for test in batch)
        # a busy machine can fail a test over a socket: it catches only what it catches twice
        tries = 2 if program.has_sockets else 1
        names = [test.name for test in batch]
        if not any(program.call(mutant.number, names, limit, clock)[0] for _ in range(tries)):
            return program
    return None


def explained():
    """The names of the survivors that the page explains."""
    text = SURVIVORS.read_text() if SURVIVORS.exists() else ""
    return set(re.findall(r"^- `(.+)`", text, re.M))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", choices=[[], *MODULES], metavar="MODULE")
    parser.add_argument("--sample", type=int, help="try this number of mutants, spread over the modules")
    parser.add_argument("--named", type=pathlib.Path, help="try the mutants whose names are in this file")
    parser.add_argument("--slowest", type=float, default=60,
                        help="leave out tests that take longer (seconds)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--write", action="store_true", help="add new survivors to survivors.md")
    return parser.parse_args()


def main():
    args = arguments()
    if args.list:
        return say("\n".join(MODULES))
    modules = args.modules or list(MODULES)
    mutants, untried = listing.list_mutants(modules)
    say(f"{len(mutants)} mutants; compiling")
    if args.sample:
        step = max(1, len(mutants) // args.sample)
        mutants = mutants[step // 2::step][:args.sample]
    if args.named:
        names = set(args.named.read_text().splitlines())
        mutants = [mutant for mutant in mutants if mutant.name in names]
    viable = survivors = mutants
    for with_units in (True, False):
        survivors, left_out = run_programs(survivors, with_units, args)
        viable = [mutant for mutant in viable if mutant.number not in left_out]
        untried.update(left_out.values())
        if not survivors:
            break
    for reason, number in sorted(untried.items()):
        say(f"not tried: {number} {reason}")
    report(viable, survivors, args)


def run_programs(mutants, with_units, args):
    """Tries the mutants on the unit tests or on the other programs.

    Returns the survivors, and the reasons of those that are left out, by number.
    """
    output, left_out = compile_all(mutants, ["test", "--no-run"], *arguments_of(mutants, with_units))
    compiled = [mutant for mutant in mutants if mutant.number not in left_out]
    first = first_of_functions(compiled)
    say(f"{len(compiled)} mutants against the {'unit tests' if with_units else 'other tests'}")
    survivors = []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        tests = measure(programs_of(output), pool)
        for test in (test for test in tests if test.seconds > args.slowest):
            say(f"  {test.program.name} {test.name} takes {test.seconds:.0f} s and is left out")
        tests = [test for test in tests if test.seconds <= args.slowest]
        task = lambda mutant: (mutant, verdict(mutant, first[mutant.number], tests))
        for done, (mutant, caught_by) in enumerate(pool.map(task, compiled), 1):
            if caught_by is None:
                survivors.append(mutant)
                if not with_units:
                    say(f"  survives: {mutant.name}")
            elif caught_by.has_sockets:
                say(f"  {caught_by.name} catches {mutant.name}")
            if done % 100 == 0:
                say(f"  {done} of {len(compiled)}, {len(survivors)} not caught")
    return survivors, left_out


def report(viable, survivors, args):
    """Prints the counts by module.

    Ends with 1 when a survivor is not explained or a module is below the floor.
    """
    known, failed = explained(), False
    for module in MODULES:
        total = sum(mutant.module == module for mutant in viable)
        its = [mutant for mutant in survivors if mutant.module == module]
        if not total:
            continue
        percent = 100 * (total - len(its)) / total
        say(f"{module:14} {total:5} viable, {total - len(its):5} caught: {percent:.1f}%")
        failed |= percent < FLOOR and not (args.sample or args.named)
    new = [mutant.name for mutant in survivors if mutant.name not in known]
    if new and args.write:
        with SURVIVORS.open("a") as page:
            page.writelines(f"- `{name}`\n" for name in new)
    for name in new:
        say(f"not explained: {name}")
    sys.exit(1 if failed or new else 0)


main()
