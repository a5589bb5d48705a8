//! The libnbd half: a child process (`libnbd_side.c`) that is handed a session a line.

use std::io::{BufRead, BufReader, Result, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Operation;
use crate::outcome::{Accepted, Account, Ending, SeenExport, without_numbers};

/// The reason in the account of a libnbd that was still waiting, or asking, when its time was over.
pub const HANGS: &str = "libnbd hangs";
/// The child sets an alarm for each session.
const SIGALRM: i32 = 14;

/// The child process. It is started anew if libnbd has crashed.
#[derive(Debug)]
pub struct LibnbdSide {
    program: PathBuf,
    child: Child,
}

impl LibnbdSide {
    pub fn start(program: PathBuf) -> Result<Self> {
        let child = spawn(&program)?;
        Ok(Self { program, child })
    }

    /// Connects to `socket`, asks for the first `contexts` of [`CONTEXTS`](crate::CONTEXTS), and awaits
    /// all operations together.
    ///
    /// # Errors
    ///
    /// Those of the pipes to the child. A child that died is not one: it is the account.
    pub fn play(&mut self, socket: &Path, contexts: usize, operations: &[Operation]) -> Result<Account> {
        let mut line = format!("{} {}", socket.display(), contexts);
        for operation in operations {
            line += &match operation {
                Operation::Status { offset, length } => format!(" s:{offset}:{length}"),
                Operation::Read { offset, length } => format!(" r:{offset}:{length}"),
                Operation::Flush => " f:0:0".to_owned(),
            };
        }
        line.push('\n');
        self.child.stdin.as_mut().expect("a pipe").write_all(line.as_bytes())?;
        let mut output = BufReader::new(self.child.stdout.as_mut().expect("a pipe"));
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if output.read_line(&mut line)? == 0 {
                let ended = self.child.wait()?;
                self.child = spawn(&self.program)?;
                let reason =
                    if ended.signal() == Some(SIGALRM) { HANGS.to_owned() } else { ended.to_string() };
                return Ok(Account::refused(reason));
            }
            if line == "end\n" {
                return Ok(parse(&lines, operations.len()));
            }
            lines.push(line.trim_end().to_owned());
        }
    }
}

impl Drop for LibnbdSide {
    fn drop(&mut self) {
        // Both fail only for a child that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path) -> Result<Child> {
    Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
}

fn parse(lines: &[String], operations: usize) -> Account {
    let mut report =
        Account { export: Err(String::new()), operations: vec![Ending::Lost; operations], died: None };
    for line in lines {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let numbers = || rest.split(' ').filter_map(|number| number.parse::<i64>().ok());
        match word {
            "export" => {
                let numbers: Vec<i64> = numbers().collect();
                report.export = Ok(SeenExport {
                    size: numbers[0].cast_unsigned(),
                    flags: core::array::from_fn(|flag| numbers[1 + flag] == 1),
                    min_block: u32::try_from(numbers[5]).unwrap_or(0),
                    contexts: core::array::from_fn(|context| numbers[6 + context] == 1),
                });
            }
            "refused" => report.export = Err(message(rest)),
            "died" => report.died = Some(message(rest)),
            "failed" => {
                let numbers: Vec<i64> = numbers().collect();
                let index = usize::try_from(numbers[0]).expect("an operation's number");
                report.operations[index] = Ending::Failed(format!("errno {}", numbers[1]));
            }
            "done" => {
                let (index, content) = rest.split_once(' ').unwrap_or((rest, ""));
                let index: usize = index.parse().expect("an operation's number");
                report.operations[index] = Ending::Done(parse_content(content));
            }
            "lost" => {}
            other => panic!("the other half says {other:?} in {line:?}"),
        }
    }
    report
}

/// The message after its errno, without the name of the function and without numbers.
fn message(text: &str) -> String {
    let message = text.split_once(' ').map_or(text, |(_, message)| message);
    without_numbers(message.split_once(": ").map_or(message, |(_, message)| message))
}

fn parse_content(words: &str) -> Accepted {
    let mut content = Accepted::default();
    let mut context = None;
    let mut hash = false;
    for word in words.split(' ').filter(|word| !word.is_empty()) {
        if let Some(number) = word.strip_prefix('c') {
            let place: usize = number.parse().expect("a context's place");
            content.lists.entry(place).or_default().push(Vec::new());
            context = Some(place);
        } else if word == "h" {
            hash = true;
        } else if hash {
            content.hash = word.parse().ok();
        } else {
            let list = content.lists.get_mut(&context.expect("a context first")).and_then(|l| l.last_mut());
            list.expect("a list").push(word.parse().expect("an entry"));
        }
    }
    content
}
