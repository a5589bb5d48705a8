//! SERVER-BEHAVIOUR.md as the tests read it: two words a row.

use core::fmt;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The outcome of a row for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerdict {
    Accept,
    Clip,
    SafeStatus,
    RequestError,
    Fatal,
}

impl RowVerdict {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Accept, "accept"),
        (Self::Clip, "clip"),
        (Self::SafeStatus, "safe status"),
        (Self::RequestError, "request error"),
        (Self::Fatal, "fatal"),
    ];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, word)| *word == text).map(|(word, _)| *word)
    }

    /// Whether a map comes out in the end.
    pub fn passes(self) -> bool {
        matches!(self, Self::Accept | Self::Clip | Self::SafeStatus)
    }
}

impl fmt::Display for RowVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.iter().find(|(word, _)| word == self).map(|(_, text)| *text);
        f.write_str(word.unwrap_or_default())
    }
}

/// All rows: their number, and the words of a lenient and of a strict client.
pub fn rows() -> BTreeMap<String, (RowVerdict, RowVerdict)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../SERVER-BEHAVIOUR.md");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _what, lenient, strict, _] = cells[..] else { continue };
        if !number.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        let word =
            |text| RowVerdict::parse(text).unwrap_or_else(|| panic!("{text:?} is none of the words: {line}"));
        let before = rows.insert(number.to_owned(), (word(lenient), word(strict)));
        assert!(before.is_none(), "row {number} is there twice");
    }
    rows
}

/// The two words of one row.
pub fn words(row: &str) -> (RowVerdict, RowVerdict) {
    *rows().get(row).unwrap_or_else(|| panic!("SERVER-BEHAVIOUR.md has no row {row}"))
}
