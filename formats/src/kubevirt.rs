//! KubeVirt's map pages: what the export server of a backup answers to `GET .../map`, a page at a time.
//!
//! ```text
//! {"extents":[{"offset":0,"length":65536,"type":1,"description":"dirty"}],"next_offset":65536}
//! {"extents":[{"offset":65536,"length":983040,"type":3,"description":"dirty,zero"}],"next_offset":null}
//! ```
//!
//! `next_offset` is what to ask for next, and null on the last page. One reader takes all pages, one after the other; between two of them
//! [`Reader::next_offset`] says what to ask. A map whose last page has not come is an error at the end, not a shorter disk.
//!
//! The number means two things: of a full backup bit 0 is HOLE ([`Full`]), of an incremental it is dirty ([`Incremental`]); bit 1 is
//! zero in both. The description tells them apart, and the reader refuses pages of the other kind. Before KubeVirt merged the two contexts,
//! incremental pages never said zero; nothing is lost by that but speed.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU64;

use super::cover::Cover;
use super::error::{Fault, Position, ReadError, WriteError};
use super::facts::{Fact, Facts, Row};
use super::json::{Lexed, Token, Tokens};
use super::record::Record;
use super::{Decode, Encode};
use nbd_extents::Extent;

/// One range of a full backup's map.
///
/// ```
/// use nbd_extents_formats::{Decode, kubevirt};
///
/// let mut page = &br#"{"extents":[{"offset":0,"length":512,"type":1,"description":"hole"}],"next_offset":null}"#[..];
/// let extent = kubevirt::Reader::<kubevirt::Full>::new().next(&mut page)?.ok_or("no extent")?;
/// assert_eq!(*extent.status(), kubevirt::Full { zero: false, hole: true });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Full {
    /// Whether every byte reads as zero.
    pub zero: bool,
    /// Whether the bytes are a hole, which says nothing of their content.
    pub hole: bool,
}

/// One range of an incremental backup's map.
///
/// ```
/// use nbd_extents_formats::kubevirt::Incremental;
/// use nbd_extents_formats::{Facts, Row};
///
/// let facts = Incremental { zero: false, dirty: true }.facts();
/// assert_eq!(facts, Facts { dirty: Some(true), zero: Some(false), ..Facts::default() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incremental {
    /// Whether every byte reads as zero.
    pub zero: bool,
    /// Whether the bytes have changed.
    pub dirty: bool,
}

impl Row for Full {
    fn facts(&self) -> Facts {
        Facts { zero: Some(self.zero), hole: self.hole, ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self { zero: facts.zero.ok_or(Fact::Zero)?, hole: facts.hole })
    }
}

impl Row for Incremental {
    fn facts(&self) -> Facts {
        Facts { zero: Some(self.zero), dirty: Some(self.dirty), ..Facts::default() }
    }

    fn from_facts(facts: &Facts) -> Result<Self, Fact> {
        Ok(Self { zero: facts.zero.ok_or(Fact::Zero)?, dirty: facts.dirty.ok_or(Fact::Dirty)? })
    }
}

/// The two kinds of pages: [`Full`] and [`Incremental`]. It cannot be implemented outside.
///
/// ```
/// use nbd_extents_formats::{Decode, ReadError, kubevirt};
///
/// /// The bytes of a page that need not be read.
/// fn zeroes<P: kubevirt::Page>(mut page: &[u8]) -> Result<u64, ReadError> {
///     let (mut reader, mut sum) = (kubevirt::Reader::<P>::new(), 0);
///     while let Some(extent) = reader.next(&mut page)? {
///         sum += if extent.status().facts().zero == Some(true) { extent.length() } else { 0 };
///     }
///     Ok(sum)
/// }
///
/// let page = br#"{"extents":[{"offset":0,"length":512,"type":3,"description":"dirty,zero"}],"next_offset":null}"#;
/// assert_eq!(zeroes::<kubevirt::Incremental>(page)?, 512);
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
pub trait Page: Row + sealed::Typed {}

impl Page for Full {}
impl Page for Incremental {}

mod sealed {
    use super::{Full, Incremental};

    /// A row and its number from 0 to 3.
    pub trait Typed: Sized {
        /// KubeVirt's words for the numbers 0 to 3.
        const WORDS: [&'static str; 4];
        fn of(low: bool, zero: bool) -> Self;
        /// Bit 0.
        fn low(&self) -> bool;
        fn zero(&self) -> bool;
    }

    impl Typed for Full {
        const WORDS: [&'static str; 4] = ["data", "hole", "zero", "hole,zero"];

        fn of(hole: bool, zero: bool) -> Self {
            Self { zero, hole }
        }

        fn low(&self) -> bool {
            self.hole
        }

        fn zero(&self) -> bool {
            self.zero
        }
    }

    impl Typed for Incremental {
        const WORDS: [&'static str; 4] = ["clean", "dirty", "zero", "dirty,zero"];

        fn of(dirty: bool, zero: bool) -> Self {
            Self { zero, dirty }
        }

        fn low(&self) -> bool {
            self.dirty
        }

        fn zero(&self) -> bool {
            self.zero
        }
    }
}

/// Reads map pages, one after the other.
///
/// ```
/// use nbd_extents_formats::{Decode, kubevirt};
///
/// let mut reader = kubevirt::Reader::<kubevirt::Incremental>::new();
/// let mut page = &br#"{"extents":[{"offset":0,"length":512,"type":1,"description":"dirty"}],"next_offset":512}"#[..];
/// assert!(reader.next(&mut page)?.is_some_and(|extent| extent.status().dirty));
/// assert_eq!(reader.next(&mut page)?, None);
/// assert_eq!(reader.next_offset(), Some(512), "the next page to ask for");
/// assert!(reader.end().is_err(), "this was not the last");
/// # Ok::<(), nbd_extents_formats::ReadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader<P> {
    tokens: Tokens,
    record: Record,
    state: State,
    cover: Cover,
    page: Seen,
    /// What the last whole page said; `None` before the first.
    next: Option<Option<u64>>,
    kind: PhantomData<P>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Between pages.
    Outside,
    /// In a page, before a key.
    Page,
    /// Before the value of `extents`.
    List,
    /// Before the value of `next_offset`.
    Next,
    /// In the array of extents.
    Extents,
    /// In one of them.
    Extent,
    /// In the value of a key that nobody knows, so deep.
    Other(u32),
}

/// What a page has said so far, and where it began.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Position,
    extents: bool,
    next: Option<Option<u64>>,
}

impl<P: Page> Reader<P> {
    /// Before the first page.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tokens: Tokens::many(),
            record: Record::new(&["offset", "length", "type", "description"], false),
            state: State::Outside,
            cover: Cover::anywhere(),
            page: Seen { at: Position::START, extents: false, next: None },
            next: None,
            kind: PhantomData,
        }
    }

    /// The offset of the next page, once a whole page has been read; `None` after the last one, and before the first.
    ///
    /// ```
    /// use nbd_extents_formats::{Decode, kubevirt};
    ///
    /// let mut reader = kubevirt::Reader::<kubevirt::Full>::new();
    /// assert_eq!(reader.next_offset(), None, "nothing has come yet");
    /// let mut page = &br#"{"extents":[{"offset":0,"length":512,"type":0,"description":"data"}],"next_offset":512}"#[..];
    /// while reader.next(&mut page)?.is_some() {}
    /// assert_eq!(reader.next_offset(), Some(512));
    /// # Ok::<(), nbd_extents_formats::ReadError>(())
    /// ```
    #[must_use]
    pub fn next_offset(&self) -> Option<u64> {
        self.next.flatten()
    }

    fn extent(&mut self) -> Result<Extent<P>, Fault> {
        let (start, length) = (self.record.number(0)?, self.record.number(1)?);
        let words = P::WORDS;
        let word = self.record.word(3, &words, "one of the descriptions of this kind of backup")?;
        let number = self.record.number(2)?;
        if usize::try_from(number) != Ok(word) {
            return Err(Fault::Contradiction { field: "type", other: "description" });
        }
        Ok(self.cover.next(start, length, P::of(number & 1 != 0, number & 2 != 0))?)
    }

    /// A page has ended.
    fn close(&mut self) -> Result<(), Fault> {
        let next = self.page.next.ok_or(Fault::Missing { field: "next_offset" })?;
        if !self.page.extents {
            return Err(Fault::Missing { field: "extents" });
        }
        if next.is_some() && next != self.cover.position() {
            return Err(Fault::Contradiction { field: "next_offset", other: "extents" });
        }
        self.next = Some(next);
        Ok(())
    }

    /// A page begins; none may follow the last.
    fn open(&mut self, at: Position) -> Result<(), ReadError> {
        if self.next == Some(None) {
            return Err(Fault::Contradiction { field: "next_offset", other: "the page that follows" }.at(at));
        }
        self.page = Seen { at, extents: false, next: None };
        self.state = State::Page;
        Ok(())
    }
}

impl<P: Page> Default for Reader<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// A value of a page that is not what it should be.
const fn wrong(at: Position, field: &'static str, expected: &'static str) -> ReadError {
    Fault::Type { field, expected }.at(at)
}

/// Where a key leads.
fn key(lexed: Lexed<'_>, page: &mut Seen) -> Result<State, ReadError> {
    let Token::Key(key) = lexed.token else {
        return Err(wrong(lexed.at, "a page", "an object"));
    };
    match key.known() {
        Some("extents") if page.extents => Err(Fault::Twice { field: "extents" }.at(lexed.at)),
        Some("next_offset") if page.next.is_some() => Err(Fault::Twice { field: "next_offset" }.at(lexed.at)),
        Some("extents") => {
            page.extents = true;
            Ok(State::List)
        }
        Some("next_offset") => Ok(State::Next),
        _ => Ok(State::Other(0)),
    }
}

impl<P: Page> Decode for Reader<P> {
    type Row = P;

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Extent<P>>, ReadError> {
        while let Some(lexed) = self.tokens.next(input)? {
            let at = lexed.at;
            match (self.state, lexed.token) {
                (State::Extent, _) => {
                    if self.record.take(lexed)? {
                        self.state = State::Extents;
                        return self.extent().map(Some).map_err(|fault| fault.at(self.record.at()));
                    }
                }
                (State::Extents, Token::BeginObject) => {
                    self.record.begin(at);
                    self.state = State::Extent;
                }
                (State::Extents, Token::EndArray) => self.state = State::Page,
                (State::Extents, _) => return Err(wrong(at, "extents", "a list of objects")),
                (State::Outside, Token::BeginObject) => self.open(at)?,
                (State::Outside, _) => return Err(wrong(at, "a page", "an object")),
                (State::Page, Token::EndObject) => {
                    self.state = State::Outside;
                    self.close().map_err(|fault| fault.at(self.page.at))?;
                }
                (State::Page, _) => self.state = key(lexed, &mut self.page)?,
                (State::List, Token::BeginArray) => self.state = State::Extents,
                (State::List, Token::Null) => self.state = State::Page, // Go's empty list
                (State::List, _) => return Err(wrong(at, "extents", "a list of objects")),
                (State::Next, Token::Null) => {
                    self.page.next = Some(None);
                    self.state = State::Page;
                }
                (State::Next, Token::Number(number)) => {
                    let Some(offset) = number.known().and_then(|digits| digits.parse().ok()) else {
                        return Err(wrong(at, "next_offset", "a whole number or null"));
                    };
                    self.page.next = Some(Some(offset));
                    self.state = State::Page;
                }
                (State::Next, _) => return Err(wrong(at, "next_offset", "a whole number or null")),
                (State::Other(depth), token) => {
                    let depth = match token {
                        Token::BeginObject | Token::BeginArray => depth + 1,
                        Token::EndObject | Token::EndArray => depth - 1,
                        _ => depth,
                    };
                    self.state = if depth == 0 { State::Page } else { State::Other(depth) };
                }
            }
        }
        Ok(None)
    }

    fn end(&mut self) -> Result<Option<Extent<P>>, ReadError> {
        let at = self.tokens.position();
        match (self.tokens.end()?, self.next) {
            (None, Some(None)) => Ok(None),
            (None, _) => Err(Fault::Ended { expected: "the next page" }.at(at)),
            (Some(lexed), _) => Err(wrong(lexed.at, "a page", "an object")),
        }
    }
}

/// Writes map pages, each on a line, as KubeVirt's server does.
///
/// ```
/// use std::num::NonZeroU64;
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Encode, kubevirt};
///
/// let mut out = String::new();
/// let mut writer = kubevirt::Writer::new(NonZeroU64::new(1000).unwrap());
/// writer.extent(&Extent::new(0, 512, kubevirt::Full { zero: true, hole: true })?, &mut out)?;
/// writer.finish(&mut out)?;
/// assert_eq!(
///     out,
///     "{\"extents\":[{\"offset\":0,\"length\":512,\"type\":3,\"description\":\"hole,zero\"}],\"next_offset\":null}\n"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer<P> {
    page: NonZeroU64,
    /// How many extents the page in hand has.
    count: u64,
    cover: Cover,
    kind: PhantomData<P>,
}

impl<P: Page> Writer<P> {
    /// With so many extents a page.
    ///
    /// ```
    /// use std::num::NonZeroU64;
    /// use nbd_extents::Extent;
    /// use nbd_extents_formats::{Encode, kubevirt};
    ///
    /// let mut out = String::new();
    /// let mut writer = kubevirt::Writer::new(NonZeroU64::MIN);
    /// for start in [0, 512] {
    ///     writer.extent(&Extent::new(start, 512, kubevirt::Incremental { zero: false, dirty: true })?, &mut out)?;
    /// }
    /// writer.finish(&mut out)?;
    /// assert_eq!(out.lines().count(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn new(page: NonZeroU64) -> Self {
        Self { page, count: 0, cover: Cover::anywhere(), kind: PhantomData }
    }
}

impl<P: Page> Encode for Writer<P> {
    type Row = P;

    fn extent(&mut self, extent: &Extent<P>, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let (start, length, row) = (extent.start(), extent.length(), extent.status());
        self.cover.next(start, length, ())?;
        if self.count == self.page.get() {
            writeln!(out, "],\"next_offset\":{start}}}")?;
            self.count = 0;
        }
        let number = usize::from(row.low()) | usize::from(row.zero()) << 1;
        let word = P::WORDS.get(number).copied().unwrap_or_default();
        out.write_str(if self.count == 0 { "{\"extents\":[" } else { "," })?;
        self.count += 1;
        Ok(write!(
            out,
            "{{\"offset\":{start},\"length\":{length},\"type\":{number},\"description\":\"{word}\"}}"
        )?)
    }

    fn finish(&mut self, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let list = if self.count == 0 { "{\"extents\":null" } else { "]" };
        Ok(writeln!(out, "{list},\"next_offset\":null}}")?)
    }
}
