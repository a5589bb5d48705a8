//! KubeVirt's map pages: the answer of the export server of a backup to `GET .../map`, a page at a
//! time.
//!
//! ```text
//! {"extents":[{"offset":0,"length":65536,"type":1,"description":"dirty"}],"next_offset":65536}
//! {"extents":[{"offset":65536,"length":983040,"type":3,"description":"dirty,zero"}],"next_offset":null}
//! ```
//!
//! `next_offset` is what to ask for next, and null on the last page: [`next_offset`]. A list is all
//! pages, one after the other. One whose last page is missing is an error at its end, not a shorter
//! disk.
//!
//! The number means two things: of a full backup (`kubevirt-full`) bit 0 is HOLE, of an incremental
//! (`kubevirt-incremental`) it is dirty; bit 1 is zero in both. The description tells them apart,
//! and pages of the other kind are refused. Before KubeVirt merged the two contexts, incremental
//! pages never said zero; nothing is lost by that but speed.

use std::io::{Read, Write};
use std::marker::PhantomData;
use std::num::NonZeroU64;

use nbd_extents::{Allocation, Extent};

use crate::attributes::{Attribute, Attributes, ImageLayer};
use crate::fault::{Fault, ListReadError, ListWriteError};
use crate::input::Input;
use crate::numbers::Numbers;
use crate::spec::{Decoder, Encode, Spec, Step, Syntax};

pub(crate) const FULL: Spec = pages::<Allocation>("kubevirt-full");
pub(crate) const INCREMENTAL: Spec = pages::<Incremental>("kubevirt-incremental");

/// The numbers of an incremental backup.
struct Incremental;

impl Numbers for Incremental {
    const SAYS: (&'static [Attribute], &'static [Attribute]) = (&[Attribute::Zero, Attribute::Dirty], &[]);
    const WORDS: &'static [&'static str] = &["clean", "dirty", "zero", "dirty,zero"];

    fn attributes(number: u64) -> Attributes {
        let (dirty, zero) = (number & 1 != 0, number & 2 != 0);
        Attributes { zero: Some(zero), dirty: Some(dirty), ..Attributes::default() }
    }

    fn number(known: &Attributes) -> u64 {
        u64::from(known.dirty != Some(false)) | u64::from(known.zero == Some(true)) << 1
    }
}

const fn pages<P: Numbers>(name: &'static str) -> Spec {
    let (must, may) = P::SAYS;
    Spec {
        name,
        must,
        may,
        layer: ImageLayer::coarse,
        decoder: |_| {
            let mut pages = Pages::<P>::new();
            let next = move |input: &mut Input<dyn Read + '_>| pages.next(input);
            Decoder { syntax: Syntax::Json, unlisted: None, next: Box::new(next) }
        },
        encoder: |options| Box::new(PageWriter::<P> { page: options.page, count: 0, numbers: PhantomData }),
    }
}

/// The offset of the page that follows this one; `None` after the last.
///
/// # Errors
///
/// When the text is not one page.
///
/// ```
/// use nbd_extents_formats::kubevirt::next_offset;
///
/// let page = br#"{"extents":[
///     {"offset":0,"length":512,"type":0,"description":"data"}
/// ],"next_offset":512}"#;
/// assert_eq!(next_offset(&page[..])?, Some(512), "the page to ask for");
/// # Ok::<(), nbd_extents_formats::ListReadError>(())
/// ```
pub fn next_offset(mut page: &[u8]) -> Result<Option<u64>, ListReadError> {
    let mut input = Input::new(&mut page);
    let read = |input: &mut Input<_>| {
        let mut next = None;
        input.punctuation(b'{', A_PAGE)?;
        while let Some(key) = input.key()? {
            match key.as_str() {
                "next_offset" => next = Some(offset(input)?),
                _ => input.skip()?,
            }
        }
        input.end()?;
        next.ok_or(Fault::Missing { field: "next_offset" })
    };
    let format = "a page of KubeVirt";
    read(&mut input).map_err(|fault| ListReadError::List { format, at: input.place(), fault })
}

const A_PAGE: &str = "a page in braces";

/// Takes the value of `next_offset`.
fn offset<R: Read + ?Sized>(input: &mut Input<R>) -> Result<Option<u64>, Fault> {
    match input.value::<serde_json::Value>()? {
        serde_json::Value::Null => Ok(None),
        value => value
            .as_u64()
            .map(Some)
            .ok_or(Fault::Type { field: "next_offset", expected: "a whole number or null" }),
    }
}

/// Takes pages apart.
struct Pages<P> {
    state: State,
    /// The page at hand has said its extents.
    extents: bool,
    /// The `next_offset` of the page at hand, and after it of the last one.
    next: Option<Option<u64>>,
    /// Where the last extent ended.
    end: Option<u64>,
    numbers: PhantomData<P>,
}

#[derive(Clone, Copy)]
enum State {
    Between,
    Page,
    Extents,
}

impl<P: Numbers> Pages<P> {
    const fn new() -> Self {
        Self { state: State::Between, extents: false, next: None, end: None, numbers: PhantomData }
    }

    fn next(&mut self, input: &mut Input<dyn Read + '_>) -> Result<Step<Attributes>, Fault> {
        loop {
            match self.state {
                State::Extents if input.item(b']')? => return self.extent(input),
                State::Extents => self.state = State::Page,
                State::Page => match input.key()? {
                    Some(key) => self.key(&key, input)?,
                    None => self.close()?,
                },
                State::Between => match (input.peek()?, self.next) {
                    (None, Some(None)) => return Ok(Step::End(None)),
                    (None, _) => return Err(Fault::Ended { expected: "the next page" }),
                    (Some(_), Some(None)) => {
                        let other = "the page that follows";
                        return Err(Fault::Contradiction { field: "next_offset", other });
                    }
                    (Some(_), _) => {
                        input.punctuation(b'{', A_PAGE)?;
                        (self.state, self.extents, self.next) = (State::Page, false, None);
                    }
                },
            }
        }
    }

    /// Takes the value of a key, unless that is the list of extents.
    fn key(&mut self, key: &str, input: &mut Input<dyn Read + '_>) -> Result<(), Fault> {
        match key {
            "extents" if self.extents => return Err(Fault::Twice { field: "extents" }),
            "next_offset" if self.next.is_some() => return Err(Fault::Twice { field: "next_offset" }),
            "extents" => {
                self.extents = true;
                if input.list("a list of extents")? {
                    self.state = State::Extents;
                }
            }
            "next_offset" => self.next = Some(offset(input)?),
            _ => input.skip()?,
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let next = self.next.ok_or(Fault::Missing { field: "next_offset" })?;
        if !self.extents {
            return Err(Fault::Missing { field: "extents" });
        }
        if next.is_some() && next != self.end {
            return Err(Fault::Contradiction { field: "next_offset", other: "extents" });
        }
        self.state = State::Between;
        Ok(())
    }

    fn extent(&mut self, input: &mut Input<dyn Read + '_>) -> Result<Step<Attributes>, Fault> {
        let fields = input.fields(&["offset", "length", "type", "description"])?;
        let (start, length, number) = (fields.number(0)?, fields.number(1)?, fields.number(2)?);
        let place = fields.word(3, P::WORDS, "one of the descriptions of this kind of backup")?;
        self.end = start.checked_add(length);
        Ok(Step::Row(start, length, P::check(number, P::WORDS.get(place).copied())?))
    }
}

/// Writes pages, each on a line.
struct PageWriter<P> {
    page: NonZeroU64,
    /// The extents on the page at hand.
    count: u64,
    numbers: PhantomData<P>,
}

impl<P: Numbers> Encode<Attributes> for PageWriter<P> {
    fn extent(&mut self, extent: &Extent<Attributes>, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        let (start, length, number) = (extent.start(), extent.length(), P::number(extent.status()));
        if self.count == self.page.get() {
            writeln!(out, "],\"next_offset\":{start}}}")?;
            self.count = 0;
        }
        let before = if self.count == 0 { "{\"extents\":[" } else { "," };
        self.count += 1;
        write!(out, "{before}{{\"offset\":{start},\"length\":{length},\"type\":{number},")?;
        Ok(write!(out, "\"description\":\"{}\"}}", P::words(number).unwrap_or_default())?)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        let list = if self.count == 0 { "{\"extents\":null" } else { "]" };
        Ok(writeln!(out, "{list},\"next_offset\":null}}")?)
    }
}
