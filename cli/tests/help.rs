//! Help, man pages and completions: each fits a terminal, has an example that works when pasted,
//! and lists the exit codes; and a reader that goes away makes none of them panic.
#![cfg(unix)]

mod support;

use core::time::Duration;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use support::run::program;
use testkit::command::{Finished, finish, succeed};
use testkit::server::folder;
use testkit::tools;

const LIMIT: Duration = Duration::from_secs(60);
const COMMANDS: [&str; 10] =
    ["map", "info", "copy", "backup", "restore", "verify", "convert", "chain", "completions", "man"];
const CODES: [&str; 6] = ["  0  ", "  1  ", "  2  ", "  3  ", "  4  ", "  5  "];

fn help(arguments: &[&str]) -> String {
    let (first, rest) = arguments.split_first().unwrap();
    let done = succeed(program(first).args(rest), "", LIMIT);
    assert_eq!(done.stderr, "");
    done.stdout
}

/// All help texts: the program's and each command's, short and long.
fn helps() -> Vec<(String, String)> {
    let mut helps = vec![("-h".to_owned(), help(&["-h"])), ("--help".to_owned(), help(&["--help"]))];
    for command in COMMANDS {
        for option in ["-h", "--help"] {
            helps.push((format!("{command} {option}"), help(&[command, option])));
        }
        assert_eq!(help(&["help", command]), help(&[command, "--help"]));
    }
    helps
}

#[test]
fn help_fits_80_columns_at_any_width_of_the_terminal() {
    for (name, help) in helps() {
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{name}: {line}");
        }
    }
    for columns in ["40", "200"] {
        let wide = succeed(program("map").arg("--help").env("COLUMNS", columns), "", LIMIT);
        assert_eq!(wide.stdout, help(&["map", "--help"]));
    }
}

#[test]
fn help_lists_the_exit_codes_and_an_example() {
    for (name, help) in helps() {
        let (_, codes) = help.split_once("\nExit codes:\n").unwrap_or_else(|| panic!("{name}"));
        let listed: Vec<&str> = codes.lines().filter(|line| !line.starts_with("   ")).collect();
        assert_eq!(listed.len(), CODES.len(), "{name}");
        for (line, code) in listed.iter().zip(CODES) {
            assert!(line.starts_with(code), "{name}: {line}");
        }
        assert!(help.contains("\nExample:\n  "), "{name}");
    }
}

#[test]
fn help_lists_every_command() {
    let help = help(&["--help"]);
    for command in COMMANDS {
        assert!(help.lines().any(|line| line.trim_start().starts_with(&format!("{command} "))), "{command}");
    }
}

/// The lines of the example, as somebody would paste them.
fn example(help: &str) -> String {
    let (_, rest) = help.split_once("\nExample:\n").unwrap();
    rest.lines().take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

#[test]
fn example_of_every_command_works_when_pasted() {
    if !tools::require(&["nbdkit"]) {
        return;
    }
    let bin = Path::new(env!("CARGO_BIN_EXE_nbd-extents")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for (name, help) in helps() {
        let folder = folder();
        let script = format!("set -e\n{}", example(&help));
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).env("PATH", &path).current_dir(folder.path());
        let done = finish(&mut shell, "", LIMIT);
        assert!(done.status.success(), "{name}: {script}\n{}", done.stderr);
    }
}

#[test]
fn man_page_of_every_command_renders() {
    for command in COMMANDS.map(Some).into_iter().chain([None]) {
        let page = help(&["man"].into_iter().chain(command).collect::<Vec<_>>());
        let title = command.map_or("nbd-extents".to_owned(), |command| format!("nbd-extents-{command}"));
        assert!(page.contains(&format!(".TH {title} 1 ")), "{page}");
        assert!(!page.contains("nbd\\-extents\\-help(1)"), "there is no such page");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS"] {
            assert!(page.contains(&format!(".SH {section}\n")), "{title}: no {section}");
        }
        if !tools::require(&["groff"]) {
            continue;
        }
        let mut groff = Command::new("groff");
        let done = succeed(groff.args(["-man", "-Tascii", "-ww", "-P-c"]), &page, LIMIT);
        assert_eq!(done.stderr, "", "{title}");
        for code in CODES {
            let code = code.trim();
            let is_code = |line: &&str| line.split_whitespace().next() == Some(code);
            assert!(done.stdout.lines().any(|line| is_code(&line)), "no exit code {code}:\n{}", done.stdout);
        }
    }
}

/// The shells that are installed take their completions, and bash completes with them.
#[test]
fn completions_load() {
    for shell in ["bash", "zsh", "fish"] {
        let script = help(&["completions", shell]);
        assert!(COMMANDS.iter().all(|command| script.contains(command)), "{shell}");
        if tools::require(&[shell]) {
            let mut shell = Command::new(shell);
            assert_eq!(succeed(shell.arg("-n"), &script, LIMIT).stderr, "");
        }
    }
    let script = format!(
        "{}\nfunction=$(complete -p nbd-extents | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n\
         COMP_WORDS=(nbd-extents map --bit) COMP_CWORD=2\n\"$function\" nbd-extents --bit map\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        help(&["completions", "bash"])
    );
    let done = succeed(&mut Command::new("bash"), &script, LIMIT);
    assert_eq!(done.stdout.lines().collect::<Vec<_>>(), ["--bitmap", "--bitmap-first"]);
}

/// The streams of a program that are pipes which nobody reads.
#[derive(Clone, Copy, PartialEq)]
enum Unread {
    Stdout,
    Stderr,
    Both,
}

/// Runs the program with pipes that nobody reads.
fn without_reader(arguments: &[&str], unread: Unread) -> Finished {
    let closed = || {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let (first, rest) = arguments.split_first().unwrap();
    let mut command = program(first);
    command.args(rest).stdin(Stdio::null());
    command.stdout(if unread != Unread::Stderr { closed() } else { Stdio::null() });
    command.stderr(if unread != Unread::Stdout { closed() } else { Stdio::piped() });
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    Finished { status: output.status, stdout: String::new(), stderr }
}

#[test]
fn reader_that_goes_away_is_no_failure_of_help_and_manual() {
    let mut texts = vec![vec!["--help"], vec!["--version"], vec!["completions", "bash"], vec!["man"]];
    texts.extend(COMMANDS.iter().flat_map(|command| [vec![*command, "--help"], vec!["man", *command]]));
    for text in texts {
        let done = without_reader(&text, Unread::Stdout);
        assert_eq!((done.status.code(), done.stderr.as_str()), (Some(0), ""), "{text:?}");
        assert_eq!(without_reader(&text, Unread::Both).status.code(), Some(0), "{text:?}");
    }
}

/// Reports that could not be written are failures: a script must not take half a man page for one.
#[test]
#[cfg(target_os = "linux")]
fn full_output_disk_is_a_failure_of_help_and_manual() {
    for text in [&["--help"][..], &["--version"], &["map", "-h"], &["help", "copy"], &["man"]] {
        let (first, rest) = text.split_first().unwrap();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = program(first).args(rest).stdout(full).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(1), "{text:?}");
        assert!(stderr.starts_with("nbd-extents: cannot write the output"), "{text:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{text:?}: {stderr}");
    }
}

/// Each remark and each error goes to a stderr that nobody reads: the exit code has to tell all the
/// same.
#[test]
fn reader_that_goes_away_makes_nothing_panic() {
    let map = ["map", "--demo"];
    assert_eq!(without_reader(&map, Unread::Stderr).status.code(), Some(0));
    let done = without_reader(&map, Unread::Stdout);
    // Output that nobody reads is nothing to talk about; the remark says where the replies come
    // from.
    assert_eq!((done.status.code(), done.stderr.lines().count()), (Some(1), 1), "{}", done.stderr);
    assert!(done.stderr.contains("no server asked"), "{}", done.stderr);
    for wrong in [&["convert"][..], &["map"], &["map", "--demo", "--format", "nbdinfo", "--actions"], &["no"]]
    {
        assert_eq!(without_reader(wrong, Unread::Both).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(without_reader(&["map", "nbd+unix:///?socket=/none"], Unread::Both).status.code(), Some(4));
    assert_eq!(without_reader(&["verify", "/none"], Unread::Both).status.code(), Some(3));
}
