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

use std::marker::PhantomData;
use std::num::NonZeroU64;

use nbd_extents::{Allocation, Extent};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::input::Input;
use crate::nested::{Found, Nested, ROWS, Shape};
use crate::numbers::{Numbers, spec};
use crate::row::row;
use crate::spec::{Decoder, Encode, Spec, Step, Syntax, Text};
use crate::{Attribute, Attributes, Fault, ListReadError, ListWriteError};

pub(crate) const FULL: Spec = pages::<Allocation>("kubevirt-full");
pub(crate) const INCREMENTAL: Spec = pages::<IncrementalNumbers>("kubevirt-incremental");

/// The numbers of an incremental backup.
struct IncrementalNumbers;

impl Numbers for IncrementalNumbers {
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
    let decoder = |_| {
        let mut pages = Pages::<P>::new();
        Decoder::new(Syntax::Json, None, move |input| pages.next(input))
    };
    spec::<P>(name, decoder, |options| {
        Box::new(PageWriter::<P> { page: options.page, count: 0, numbers: PhantomData })
    })
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
pub fn next_offset(page: &[u8]) -> Result<Option<u64>, ListReadError> {
    let mut input = Input::new(page);
    let format = "a page of KubeVirt";
    single(&mut input).map_err(|fault| ListReadError::List { format, at: input.place(), fault })
}

/// Reads a page that stands alone, and passes over its extents.
fn single(input: &mut Text<'_>) -> Result<Option<u64>, Fault> {
    let mut page = Nested::new(&PAGE);
    page.open(input)?;
    while page.next(input)? == Found::Row {
        input.value::<IgnoredAny>()?;
    }
    input.end()?;
    next_of(&page)
}

const PAGE: Shape = Shape {
    names: &["extents", "next_offset"],
    protobuf: &[],
    object: "a page in braces",
    rows: "a list of extents",
};

/// The `next_offset` of a page that has been read.
fn next_of(page: &Nested) -> Result<Option<u64>, Fault> {
    match page.head.value(1) {
        Some(Value::Null) => Ok(None),
        _ => page.head.number(1).map(Some).map_err(|_| page.head.wrong(1, "a whole number or null")),
    }
}

/// Takes pages apart.
struct Pages<P> {
    page: Nested,
    /// The `next_offset` of the last page that has ended.
    next: Option<Option<u64>>,
    /// The end of the last extent.
    end: Option<u64>,
    numbers: PhantomData<P>,
}

impl<P: Numbers> Pages<P> {
    fn new() -> Self {
        Self { page: Nested::new(&PAGE), next: None, end: None, numbers: PhantomData }
    }

    fn next(&mut self, input: &mut Text<'_>) -> Result<Step<Attributes>, Fault> {
        loop {
            match self.page.next(input)? {
                Found::Row => return self.extent(input),
                Found::End => self.close()?,
                Found::Outside => match (input.peek()?, self.next) {
                    (None, Some(None)) => return Ok(Step::End(None)),
                    (None, _) => return Err(Fault::Unexpected { found: None, expected: "the next page" }),
                    (Some(_), Some(None)) => {
                        let other = "the page that follows";
                        return Err(Fault::Contradiction { field: "next_offset", other });
                    }
                    (Some(_), _) => self.page.open(input)?,
                },
            }
        }
    }

    /// Takes the end of a page. Its `next_offset` must be the end of its last extent.
    fn close(&mut self) -> Result<(), Fault> {
        let next = next_of(&self.page)?;
        if self.page.head.value(ROWS).is_none() {
            return Err(Fault::Missing("extents"));
        }
        if next.is_some() && next != self.end {
            return Err(Fault::Contradiction { field: "next_offset", other: "extents" });
        }
        self.next = Some(next);
        Ok(())
    }

    fn extent(&mut self, input: &mut Text<'_>) -> Result<Step<Attributes>, Fault> {
        let fields = input.fields(&["offset", "length", "type", "description"], &[])?;
        let (start, length, number) = (fields.number(0)?, fields.number(1)?, fields.number(2)?);
        let words = fields.word(3, P::WORDS, "one of the descriptions of this kind of backup")?;
        self.end = start.checked_add(length);
        Ok(Step::Row(start, length, P::check(number, Some(words))?))
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
            row!(out, "],\"next_offset\":", start, "}\n");
            self.count = 0;
        }
        let before = if self.count == 0 { "{\"extents\":[" } else { "," };
        self.count += 1;
        row!(out, before, "{\"offset\":", start, ",\"length\":", length, ",\"type\":", number);
        row!(out, ",\"description\":\"", &*P::words(number).unwrap_or_default(), "\"}");
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ListWriteError> {
        let list = if self.count == 0 { "{\"extents\":null" } else { "]" };
        row!(out, list, ",\"next_offset\":null}\n");
        Ok(())
    }
}
