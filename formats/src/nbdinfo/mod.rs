//! What `nbdinfo --map` prints of one metadata context, as text and as JSON; [`Totals`] is what it prints with `--totals`.
//!
//! ```text
//!          0     1114112    0  data
//!    1114112     3604480    3  hole,zero
//! ```
//!
//! ```text
//! [
//! { "offset": 0, "length": 1114112, "type": 0, "description": "data"},
//! { "offset": 1114112, "length": 3604480, "type": 3, "description": "hole,zero"}
//! ]
//! ```
//!
//! The number is the status as it came over the wire, so its meaning depends on the context, which the output does not name: a 1 is a hole, dirty, or
//! the top layer. So the reader is told: its rows are [`Allocation`], [`Dirtiness`] or [`Depth`]. The description must be the one that
//! nbdinfo has for this context and number; anything else is an error, since then it is the map of another context.

mod text;
mod totals;

use std::fmt;

pub use text::{TextReader, TextWriter};
pub use totals::Totals;

use super::error::Fault;
use super::facts::{Fact, Facts, Layer, Row};
use super::list::{InList, ListReader, ListWriter, Style};
use super::record::{Record, Value};
use nbd_extents::{Allocation, Depth, Dirtiness};

/// Reads `nbdinfo --map --json`; `C` is what the map was of: [`Allocation`], [`Dirtiness`] or [`Depth`].
///
/// ```
/// use nbd_extents::Dirtiness;
/// use nbd_extents_formats::{Decode, nbdinfo};
///
/// let mut input = &b"[\n{ \"offset\": 0, \"length\": 512, \"type\": 1, \"description\": \"dirty\"}\n]\n"[..];
/// let mut reader = nbdinfo::JsonReader::<Dirtiness>::new();
/// assert!(reader.next(&mut input)?.is_some_and(|extent| extent.status().is_dirty()));
///
/// let mut hole = &b"[{ \"offset\": 0, \"length\": 512, \"type\": 1, \"description\": \"hole\"}]"[..];
/// assert!(nbdinfo::JsonReader::<Dirtiness>::new().next(&mut hole).is_err(), "that is no dirty bitmap");
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
pub type JsonReader<C> = ListReader<C>;
/// Writes what `nbdinfo --map --json` prints.
///
/// ```
/// use nbd_extents_formats::{Encode, nbdinfo};
/// use nbd_extents::{Depth, Extent};
///
/// let mut out = String::new();
/// let mut writer = nbdinfo::JsonWriter::new();
/// writer.extent(&Extent::new(0, 512, Depth::from_flags(2))?, &mut out)?;
/// writer.finish(&mut out)?;
/// assert_eq!(out, "[\n{ \"offset\": 0, \"length\": 512, \"type\": 2, \"description\": \"backing depth 2\"}\n]\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type JsonWriter<C> = ListWriter<C>;

/// The three contexts that nbdinfo has words for. It cannot be implemented outside.
///
/// ```
/// use nbd_extents_formats::{Decode, ReadError, nbdinfo};
/// use nbd_extents::{Allocation, Depth};
///
/// fn first<C: nbdinfo::Context>(mut line: &[u8]) -> Result<Option<C>, ReadError> {
///     Ok(nbdinfo::TextReader::new().next(&mut line)?.map(|extent| *extent.status()))
/// }
///
/// assert_eq!(first(b"0 512 1 hole\n")?, Some(Allocation::from_flags(1)));
/// assert_eq!(first(b"0 512 1 local\n")?, Some(Depth::from_flags(1)));
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
pub trait Context: Copy + sealed::Flags {}

impl Context for Allocation {}
impl Context for Dirtiness {}
impl Context for Depth {}

mod sealed {
    use super::{Allocation, Depth, Description, Dirtiness};

    /// A status and the number that it is on the wire.
    pub trait Flags {
        fn of(flags: u64) -> Self;
        fn number(&self) -> u64;
        fn description(&self) -> Option<Description>;
    }

    impl Flags for Allocation {
        fn of(flags: u64) -> Self {
            Self::from_flags(flags)
        }

        fn number(&self) -> u64 {
            self.flags()
        }

        fn description(&self) -> Option<Description> {
            ["data", "hole", "zero", "hole,zero"]
                .get(usize::try_from(self.flags()).ok()?)
                .copied()
                .map(Description::Words)
        }
    }

    impl Flags for Dirtiness {
        fn of(flags: u64) -> Self {
            Self::from_flags(flags)
        }

        fn number(&self) -> u64 {
            self.flags()
        }

        fn description(&self) -> Option<Description> {
            ["clean", "dirty"].get(usize::try_from(self.flags()).ok()?).copied().map(Description::Words)
        }
    }

    impl Flags for Depth {
        fn of(flags: u64) -> Self {
            Self::from_flags(flags)
        }

        fn number(&self) -> u64 {
            self.flags()
        }

        fn description(&self) -> Option<Description> {
            Some(match self.flags() {
                0 => Description::Words("absent"),
                1 => Description::Words("local"),
                depth => Description::Backing(depth),
            })
        }
    }
}

/// nbdinfo's words for a status.
#[derive(Clone, Copy, Debug)]
pub enum Description {
    /// The words.
    Words(&'static str),
    /// A backing file, so deep.
    Backing(u64),
}

impl Description {
    /// Whether these are the words.
    fn is(self, text: &str) -> bool {
        match self {
            Self::Words(words) => words == text,
            Self::Backing(depth) => {
                let number =
                    text.strip_prefix("backing depth ").filter(|number| !number.starts_with(['0', '+']));
                number.and_then(|number| number.parse().ok()) == Some(depth)
            }
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => f.write_str(words),
            Self::Backing(depth) => write!(f, "backing depth {depth}"),
        }
    }
}

/// Whether the description is nbdinfo's for this status, or is left out.
fn check<C: Context>(status: &C, description: Option<&str>) -> Result<(), Fault> {
    match (description, status.description()) {
        (None, _) => Ok(()),
        (Some(text), Some(words)) if words.is(text) => Ok(()),
        _ => Err(Fault::Contradiction { field: "type", other: "description" }),
    }
}

/// Reads a number and a description, the fields `first` and `first + 1` of a record.
fn read<C: Context>(record: &Record, first: usize) -> Result<C, Fault> {
    let status = C::of(record.number(first)?);
    match record.value(first + 1) {
        Value::Missing => {}
        Value::Word(word) => check(&status, Some(word.text()))?,
        _ => return Err(Fault::Type { field: "description", expected: "one of nbdinfo's descriptions" }),
    }
    Ok(status)
}

impl<C: Context> InList for C {
    const FIELDS: &'static [&'static str] = &["offset", "length", "type", "description"];
    const STYLE: Style = Style {
        open: "[\n",
        between: ",\n",
        close: "\n]\n",
        empty: "[\n\n]\n",
        array: true,
        zero_length: false,
    };

    fn read(record: &Record) -> Result<Self, Fault> {
        read(record, 2)
    }

    fn write(&self, start: u64, length: u64, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{{ \"offset\": {start}, \"length\": {length}, \"type\": {}", self.number())?;
        if let Some(description) = self.description() {
            write!(out, ", \"description\": \"{description}\"")?;
        }
        out.write_char('}')
    }
}

impl Row for Allocation {
    fn facts(&self) -> Facts {
        Facts { zero: Some(self.is_zero()), hole: self.is_hole(), ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        let zero = facts.zero.ok_or(Fact::Zero)?;
        Ok(Self::from_flags(u64::from(facts.hole) | u64::from(zero) << 1))
    }
}

impl Row for Dirtiness {
    fn facts(&self) -> Facts {
        Facts { dirty: Some(self.is_dirty()), ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self::from_flags(u64::from(facts.dirty.ok_or(Fact::Dirty)?)))
    }
}

impl Row for Depth {
    fn facts(&self) -> Facts {
        let layer = |depth| if depth == 0 { Layer::Absent } else { Layer::Depth(depth) };
        Facts { layer: self.layer().map(layer), ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        match facts.layer {
            Some(Layer::Absent) => Ok(Self::from_flags(0)),
            Some(Layer::Depth(depth)) => Ok(Self::from_flags(u64::from(depth))),
            Some(Layer::Present) | None => Err(Fact::Layer),
        }
    }
}
