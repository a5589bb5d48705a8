//! From one format into another, by way of [`Facts`]: nothing is added that is not known, and nothing is left out unless the caller allows it.

use std::fmt;

use super::error::{ReadError, WriteError};
use super::facts::{Assume, FactSet, Facts, Row};
use super::{Decode, Encode};
use nbd_extents::Extent;

/// A reader whose rows are turned into [`Facts`].
///
/// ```
/// use nbd_extents_formats::{AsFacts, imageio};
/// use nbd_extents::stream::ExtentStream;
///
/// let json = br#"[{"start": 0, "length": 512, "zero": true, "hole": true}]"#;
/// let facts = nbd_extents_formats::read(AsFacts(imageio::ZeroReader::new()), &json[..]).collect_vec()?;
/// assert_eq!(facts[0].status().status().to_string(), "zero,absent");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AsFacts<D>(pub D);

impl<D: Decode<Row: Row>> Decode for AsFacts<D> {
    type Row = Facts;

    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Extent<Facts>>, ReadError> {
        let extent = self.0.next(input)?;
        Ok(extent.map(|extent| extent.map(|row| row.facts())))
    }

    fn end(&mut self) -> Result<Option<Extent<Facts>>, ReadError> {
        let extent = self.0.end()?;
        Ok(extent.map(|extent| extent.map(|row| row.facts())))
    }
}

/// What becomes of facts that a format cannot say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Loss {
    /// They are an error.
    #[default]
    Refuse,
    /// They are left out, and counted. Neighbours that are the same without them are joined.
    Allow,
}

/// A writer that is given [`Facts`].
pub trait EncodeFacts: Encode<Row = Facts> {
    /// The kinds of facts that were left out so far.
    fn lost(&self) -> FactSet;
}

/// A writer whose rows are made from [`Facts`].
///
/// ```
/// use nbd_extents::Extent;
/// use nbd_extents_formats::{Assume, Encode, EncodeFacts, Fact, Facts, FromFacts, Loss, imageio};
///
/// let facts = Facts { zero: Some(true), dirty: Some(true), ..Facts::default() };
/// let extent = Extent::new(0, 512, facts)?;
///
/// let mut strict = FromFacts::new(imageio::ZeroWriter::new(), Loss::Refuse, Assume::default());
/// let error = strict.extent(&extent, &mut String::new()).unwrap_err();
/// assert_eq!(error.to_string(), "the format cannot say \"dirty\", which is known of the bytes from 0 on");
///
/// let mut out = String::new();
/// let mut lossy = FromFacts::new(imageio::ZeroWriter::new(), Loss::Allow, Assume::default());
/// lossy.extent(&extent, &mut out)?;
/// lossy.finish(&mut out)?;
/// assert_eq!(out, r#"[{"start": 0, "length": 512, "zero": true}]"#);
/// assert!(lossy.lost().contains(Fact::Dirty));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FromFacts<E: Encode> {
    encoder: E,
    loss: Loss,
    assume: Assume,
    lost: FactSet,
    /// With loss allowed: the last row, to which the next may be joined.
    last: Option<Extent<E::Row>>,
}

impl<E: Encode<Row: Row>> FromFacts<E> {
    /// Writes by `encoder`.
    pub fn new(encoder: E, loss: Loss, assume: Assume) -> Self {
        Self { encoder, loss, assume, lost: FactSet::default(), last: None }
    }
}

impl<E: Encode<Row: Row>> EncodeFacts for FromFacts<E> {
    fn lost(&self) -> FactSet {
        self.lost
    }
}

impl<E: Encode<Row: Row>> Encode for FromFacts<E> {
    type Row = Facts;

    fn extent(&mut self, extent: &Extent<Facts>, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        let (facts, start) = (extent.status(), extent.start());
        let assumed = facts.assuming(self.assume);
        let row = E::Row::from_facts(&assumed).map_err(|fact| WriteError::Unknown { fact, start })?;
        let lost = facts.lost_in(&row.facts());
        let row = extent.map(|_| row);
        if self.loss == Loss::Refuse {
            return if lost.is_empty() {
                self.encoder.extent(&row, out)
            } else {
                Err(WriteError::Lost { lost, start })
            };
        }
        self.lost = self.lost.union(lost);
        match &mut self.last {
            None => self.last = Some(row),
            Some(last) => {
                if let Some(next) = last.absorb(row) {
                    self.encoder.extent(&std::mem::replace(last, next), out)?;
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn fmt::Write) -> Result<(), WriteError> {
        if let Some(last) = self.last.take() {
            self.encoder.extent(&last, out)?;
        }
        self.encoder.finish(out)
    }
}
