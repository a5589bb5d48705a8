"""The mutants of the modules: those that cargo-mutants lists, and those that it leaves out.

cargo-mutants passes over constructors called `new` and over implementations of `Default`. It only parses,
so a copy in which these names are spelt otherwise, at the same length, gives it all of them.
"""

import collections
import json
import re
import shutil
import subprocess
import sys

import rewrite
from modules import MODULES, ROOT, TREE

# the names of what cargo-mutants passes over, and others of the same length
HIDDEN = {"new": "nEw", "Default": "DefauLt"}
DEFINED = re.compile(r"(?<=\bfn )new\b|\bDefault(?= for\b)")
MACRO = re.compile(r"\b\w+!\s*(?:\w+\s*)?(?=[{(\[])")
TESTS = re.compile(r"^#\[cfg\(test\)\]\n(?:#\[[^\n]*\]\n)*mod .*", re.M | re.S)
FUNCTION = re.compile(r"\bfn\s+\w+")
OPERATOR = re.compile(r" (?:==|!=|<=?|>=?|&&|\|\||[-+*/%&|^]|<<|>>) |!(?=[a-z(])")


def copy_tree():
    """A copy of the files that git knows, as they are now."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    shutil.rmtree(TREE, ignore_errors=True)
    for file in files:
        if (ROOT / file).is_file():
            (TREE / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, TREE / file)


def sources(module):
    """The files of a module, without those of tests alone."""
    files = sorted((ROOT / MODULES[module][1]).rglob("*.rs"))
    return [file for file in files if not any("tests" in part for part in file.relative_to(ROOT).parts)]


def listed(package, folders):
    """cargo-mutants' list for these folders of a package."""
    for file in (file for folder in folders for file in (TREE / folder).rglob("*.rs")):
        file.write_text(DEFINED.sub(lambda name: HIDDEN[name.group()], file.read_text()))
    command = ["cargo", "mutants", "--list", "--json", "-p", package,
               *(argument for folder in folders for argument in ("-f", f"{folder}/**"))]
    output = subprocess.run(command, cwd=TREE, capture_output=True, text=True)
    if output.returncode != 0:
        sys.exit(output.stderr)
    text = output.stdout
    for name, other in HIDDEN.items():
        text = text.replace(other, name)
    return json.loads(text)


def ends(span):
    return tuple((span[end]["line"], span[end]["column"]) for end in ("start", "end"))


def list_mutants(modules):
    """The mutants of the modules, numbered from 1 on, and the number of those left out, by reason."""
    found, seen, left_out = [], collections.Counter(), collections.Counter()
    copy_tree()
    for package in sorted({MODULES[module][0] for module in modules}):
        folders = {MODULES[module][1]: module for module in modules if MODULES[module][0] == package}
        for entry in listed(package, folders):
            function = entry["function"]
            if not function:
                left_out["of constants, which the compiler evaluates"] += 1
                continue
            if "<impl Default for" in function["function_name"] and entry["genre"] == "FnValue":
                left_out["of `default` that call themselves"] += 1
                continue
            # without lines and columns, which change with every edit; equal names are counted
            name = re.sub(r":\d+:\d+:", ":", entry["name"], count=1)
            seen[name] += 1
            name += f" (#{seen[name]})" if seen[name] > 1 else ""
            module = next(module for folder, module in folders.items()
                          if entry["file"].startswith(f"{folder}/"))
            found.append(rewrite.Mutant(0, name, entry["file"], package, module,
                                        ends(function["span"]), ends(entry["span"]), entry["replacement"],
                                        entry["genre"] == "FnValue", function["return_type"]))
    copy_tree()
    # the mutants of one function get neighbouring numbers
    order = list(MODULES)
    found.sort(key=lambda mutant: (order.index(mutant.module), mutant.file, mutant.function, mutant.span))
    for number, mutant in enumerate(found, 1):
        mutant.number = number
    return found, left_out + in_macros(modules)


def in_macros(modules):
    """The functions and operators that cargo-mutants cannot see, since they are tokens of a macro."""
    hidden = collections.Counter()
    texts = [file.read_text() for module in modules for file in sources(module)]
    for text in texts:
        for macro in outermost(TESTS.sub("", rewrite.without_words(text))):
            name, tokens = macro.split("!", 1)
            kind = "operators in assertions" if "assert" in name else "operators in other macros"
            hidden["functions in macros"] += len(FUNCTION.findall(tokens))
            hidden[kind] += len(OPERATOR.findall(tokens))
    return hidden


def outermost(text):
    """The macros of a text, their arguments included, without those inside of others."""
    end = 0
    for macro in MACRO.finditer(text):
        if macro.start() >= end:
            end = rewrite.closing(text, macro.end())
            yield text[macro.start():end]
