//! Statuses that a program prints as a number: those of the metadata contexts, as they come over
//! the wire, and KubeVirt's.

use std::borrow::Cow;

use nbd_extents::{Allocation, Depth, Dirtiness};

use crate::spec::{Decoder, Encode, Spec};
use crate::{Attribute, Attributes, Fault, ImageLayer, ReadOptions, WriteOptions};

/// The meaning of a number.
pub trait Numbers: Send + 'static {
    /// The attributes that a row must state, and those that it may state.
    const SAYS: (&'static [Attribute], &'static [Attribute]);
    /// The words of the first numbers.
    const WORDS: &'static [&'static str];
    fn attributes(number: u64) -> Attributes;
    fn number(known: &Attributes) -> u64;

    /// The words for a number, if there are any.
    fn words(number: u64) -> Option<Cow<'static, str>> {
        Self::WORDS.get(usize::try_from(number).ok()?).copied().map(Cow::Borrowed)
    }

    /// The attributes of a number, if the words beside it are its own or are left out.
    fn check(number: u64, words: Option<&str>) -> Result<Attributes, Fault> {
        let words = words.map(|words| words.trim_matches(' ')).filter(|words| !words.is_empty());
        if words.is_some_and(|words| Self::words(number).is_none_or(|own| own != words)) {
            return Err(Fault::Contradiction { field: "type", other: "description" });
        }
        Ok(Self::attributes(number))
    }
}

/// A format whose rows say one of these numbers.
pub(crate) const fn spec<N: Numbers>(
    name: &'static str,
    decoder: fn(ReadOptions) -> Decoder<Attributes>,
    encoder: fn(WriteOptions) -> Box<dyn Encode<Attributes>>,
) -> Spec {
    let (must, may) = N::SAYS;
    Spec { name, must, may, layer: ImageLayer::numbered, decoder, encoder }
}

impl Numbers for Allocation {
    const SAYS: (&'static [Attribute], &'static [Attribute]) = (&[Attribute::Zero], &[Attribute::Hole]);
    const WORDS: &'static [&'static str] = &["data", "hole", "zero", "hole,zero"];

    fn attributes(number: u64) -> Attributes {
        let flags = Self::from_flags(number);
        Attributes { zero: Some(flags.is_zero()), hole: flags.is_hole(), ..Attributes::default() }
    }

    fn number(known: &Attributes) -> u64 {
        u64::from(known.hole) | u64::from(known.zero == Some(true)) << 1
    }
}

impl Numbers for Dirtiness {
    const SAYS: (&'static [Attribute], &'static [Attribute]) = (&[Attribute::Dirty], &[]);
    const WORDS: &'static [&'static str] = &["clean", "dirty"];

    fn attributes(number: u64) -> Attributes {
        Attributes { dirty: Some(Self::from_flags(number).is_dirty()), ..Attributes::default() }
    }

    fn number(known: &Attributes) -> u64 {
        u64::from(known.dirty != Some(false))
    }
}

impl Numbers for Depth {
    const SAYS: (&'static [Attribute], &'static [Attribute]) = (&[Attribute::Layer], &[]);
    const WORDS: &'static [&'static str] = &["absent", "local"];

    fn attributes(number: u64) -> Attributes {
        let layer = Self::from_flags(number).layer().map(ImageLayer::from_depth);
        Attributes { layer, ..Attributes::default() }
    }

    fn number(known: &Attributes) -> u64 {
        match known.layer {
            Some(ImageLayer::Depth(depth)) => u64::from(depth),
            _ => 0,
        }
    }

    fn words(number: u64) -> Option<Cow<'static, str>> {
        let words = usize::try_from(number).ok().and_then(|number| Self::WORDS.get(number));
        Some(words.map_or_else(|| format!("backing depth {number}").into(), |words| (*words).into()))
    }
}
