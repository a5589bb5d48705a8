"""Writes all mutants of a source file into the file itself, as arms of a `match` over a number that is
chosen at run time.

cargo-mutants lists mutants as spans and replacements. A function with the mutants 7 and 8 becomes

    fn f(..) -> R { match crate::mutant_switch::chosen(7) {
        7 => { the body with the replacement of 7 }
        8 => { the body with the replacement of 8 }
        _ => { the body as it is }
    } }

The arms of a match have one type. Where the function returns `impl Iterator`, each body has a type of its
own, so that the arms are wrapped: `Left(7's)`, `Right(Left(8's))`, `Right(Right(the body as it is))`.

Each arm starts on a line of its own, so that the line of a compiler error says which mutant does not compile.
"""

import re
from dataclasses import dataclass, field

# Reads the chosen number from the environment at its first call. `const` functions call it too, and stand
# for themselves while the compiler evaluates them: `const_eval_select` needs a rustc that takes
# unstable features (RUSTC_BOOTSTRAP).
SWITCH = """
pub(crate) mod mutant_switch {
    extern crate std;
    use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
    use std::io::Write as _;

    const UNREAD: u32 = u32::MAX;
    const RECORDING: u32 = u32::MAX - 1;
    static CHOSEN: AtomicU32 = AtomicU32::new(UNREAD);
    /// The names that replacements use, for a crate without std.
    pub(crate) mod names {
        pub(crate) use std::prelude::rust_2024::*;
        pub(crate) use std::{borrow::Cow, collections::*, format, rc::Rc, sync::Arc, vec};
    }

    /// One of two iterators over the same items.
    #[derive(Clone)]
    pub(crate) enum Either<A, B> {
        Left(A),
        Right(B),
    }

    impl<A: Iterator, B: Iterator<Item = A::Item>> Iterator for Either<A, B> {
        type Item = A::Item;

        fn next(&mut self) -> Option<A::Item> {
            match self {
                Either::Left(iterator) => iterator.next(),
                Either::Right(iterator) => iterator.next(),
            }
        }
    }

    /// Says of what an iterator is, since an arm of its own does not.
    pub(crate) fn over<T, I: Iterator<Item = T>>(iterator: I) -> I {
        iterator
    }

    static REACHED: [AtomicBool; 65536] = [const { AtomicBool::new(false) }; 65536];

    pub(crate) const fn chosen(first: u32) -> u32 {
        core::intrinsics::const_eval_select((first,), none, from_environment)
    }

    const fn none(_: u32) -> u32 {
        0
    }

    fn from_environment(first: u32) -> u32 {
        match CHOSEN.load(Relaxed) {
            UNREAD => {
                let number = std::env::var("MUTANT").ok().and_then(|number| number.parse().ok()).unwrap_or(0);
                let recording = number == 0 && std::env::var_os("MUTANTS_REACHED").is_some();
                CHOSEN.store(if recording { RECORDING } else { number }, Relaxed);
                from_environment(first)
            }
            RECORDING => {
                if !REACHED[first as usize].swap(true, Relaxed)
                    && let Some(path) = std::env::var_os("MUTANTS_REACHED")
                    && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
                {
                    let _ = file.write_all(std::format!("{first}\\n").as_bytes());
                }
                0
            }
            number => number,
        }
    }
}
"""
FEATURES = "#![feature(core_intrinsics, const_eval_select)]\n#![allow(internal_features, warnings)]\n"
TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'|[{}]""", re.S
)
MARK = re.compile(r"/\*(mutant|end) (\d+)\*/")


@dataclass
class Mutant:
    """One mutant of the list."""

    number: int
    name: str
    file: str
    package: str
    module: str
    function: tuple  # the span of the function: ((line, column), (line, column))
    span: tuple
    replacement: str
    is_body: bool  # the whole body is replaced
    return_type: str  # `-> R`, as cargo-mutants prints it


@dataclass
class Function:
    """A function with its mutants, and where it stands in the text."""

    start: int
    end: int
    return_type: str
    mutants: list = field(default_factory=list)


class Text:
    """A source file that is addressed by lines and columns from 1 on."""

    def __init__(self, text):
        self.text = text
        self.lines = [0]
        for line in text.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def offset(self, place):
        return self.lines[place[0] - 1] + place[1] - 1


def body_of(text, start, end):
    """The range between the outer braces of the function at start..end."""
    opened = []
    for token in TOKEN.finditer(text, start, end):
        if token.group() == "{":
            opened.append(token.end())
        elif token.group() == "}":
            opening = opened.pop()
            if token.end() == end:
                return opening, token.start()
    raise ValueError(f"no body in {text[start:end]!r}")


def switched(source, mutants, originals_only):
    """The file with each mutant as an arm. `originals_only`: numbers of mutants to leave out."""
    text = Text(source)
    functions = {}
    for mutant in mutants:
        if mutant.number in originals_only:
            continue
        start, end = (text.offset(place) for place in mutant.function)
        functions.setdefault((start, end), Function(start, end, mutant.return_type)).mutants.append(mutant)
    ordered = sorted(functions.values(), key=lambda function: (function.start, -function.end))
    return render(text, ordered, 0, len(source))


def render(text, functions, start, end):
    """The text from start to end, with the functions in it switched; nested ones inside their own arm."""
    out, position = [], start
    remaining = [f for f in functions if start <= f.start and f.end <= end]
    while remaining:
        function = remaining.pop(0)
        inner = [f for f in remaining if f.end <= function.end]
        remaining = [f for f in remaining if f.start >= function.end]
        opening, closing = body_of(text.text, function.start, function.end)
        first = function.mutants[0].number
        out.append(text.text[position:opening])
        out.append(f" match crate::mutant_switch::chosen({first}) {{")
        for nth, mutant in enumerate(function.mutants):
            at, to = (text.offset(place) for place in mutant.span)
            body = text.text[opening:at] + mutant.replacement + text.text[to:closing]
            if mutant.is_body:
                body = "use crate::mutant_switch::names::*;" + typed(body, mutant.return_type)
            before, after = wrapped(function, nth)
            arm = f"{mutant.number} => {before}{{\n{body}\n}}{after},"
            out.append(f"\n/*mutant {mutant.number}*/ {arm} /*end {mutant.number}*/")
        original = render(text, inner, opening, closing)
        before, after = wrapped(function, len(function.mutants))
        out.append(f"\n/*mutant {first}*/ _ => {before}{{ /*end {first}*/\n{original}\n}}{after},\n}} ")
        position = closing
    out.append(text.text[position:end])
    return "".join(out)


def item_of(return_type):
    """The items of a function that returns `impl Iterator`; `None` for any other."""
    found = re.match(r"-> impl \w*Iterator<Item ?=\s*", return_type)
    if not found:
        return None
    depth, end = 1, found.end()
    while depth:
        depth += {"<": 1, ">": -1}.get(return_type[end], 0)
        end += 1
    return return_type[found.end():end - 1]


def typed(body, return_type):
    """A body that names its items, so that a reference to other bytes is taken for one."""
    item = item_of(return_type)
    return body if item is None else body.replace("::iter::once(", f"::iter::once::<{item}>(")


def wrapped(function, nth):
    """The text before and after the arm of the nth mutant of a function; the last one is its body."""
    item = item_of(function.return_type)
    if item is None:
        return "", ""
    either = "crate::mutant_switch::Either::"
    sides = ["Right"] * nth + ["Left"] * (nth < len(function.mutants))
    before = "".join(f"{either}{side}(" for side in sides) + f"crate::mutant_switch::over::<{item}, _>("
    return before, ")" * (len(sides) + 1)


def without_words(source):
    """The source with its comments and literals blanked out."""
    blank = lambda token: token.group() if token.group() in "{}" else re.sub(r"[^\n]", " ", token.group())
    return TOKEN.sub(blank, source)


def closing(text, opening):
    """The end of the brackets that open here, in a text without comments and literals."""
    depth = 0
    for at in range(opening, len(text)):
        depth += (text[at] in "{([") - (text[at] in "})]")
        if depth == 0:
            return at + 1
    return len(text)


def with_switch(source):
    """The root of a crate with the switch in it."""
    # inner attributes and comments come first
    return FEATURES + source + SWITCH


def mutant_of_line(source, line):
    """The number of the mutant whose arm has this line of a switched file; `None` outside of all arms."""
    current = None
    for number, content in enumerate(source.splitlines(), 1):
        marks = list(MARK.finditer(content))
        if any(mark.group(1) == "mutant" for mark in marks):
            current = int(marks[-1].group(2)) if marks[-1].group(1) == "mutant" else None
        if number == line:
            return current if current is not None else None
        if marks and marks[-1].group(1) == "end":
            current = None
    return None


def function_of_line(source, line):
    """The first mutant of the function whose plain arm has this line; `None` when there is none."""
    for content in reversed(source.splitlines()[:line]):
        found = re.search(r"chosen\((\d+)\)", content)
        if found:
            return int(found.group(1))
    return None
