//! Encodes descriptors as the payload of a status chunk, for servers, proxies, tests and fuzzers.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use super::{Descriptor, Form};
use crate::error::EncodeError;

/// The size of a payload with `descriptors` descriptors, or `None` if it exceeds `usize`.
///
/// ```
/// use nbd_extents::wire::{Form, encoded_size};
///
/// assert_eq!(encoded_size(Form::Compact, 1 << 20), Some(8_388_612));
/// assert_eq!(encoded_size(Form::Extended, 1 << 20), Some(16_777_224));
/// ```
#[must_use]
pub const fn encoded_size(form: Form, descriptors: usize) -> Option<usize> {
    match descriptors.checked_mul(form.descriptor_size()) {
        Some(list) => list.checked_add(form.header_size()),
        None => None,
    }
}

/// Encodes the payload of a status chunk into `out` and returns its size in bytes.
///
/// # Errors
///
/// An [`EncodeError`] when there is no descriptor, one has length 0 or does not fit the form, or
/// `out` is too small. The content of `out` is then unspecified.
///
/// ```
/// use nbd_extents::wire::{Descriptor, Form, encode_into};
///
/// let mut out = [0xa5; 16];
/// let used =
///     encode_into(Form::Compact, 2, [Descriptor { length: 65536, flags: 1 }], &mut out)?;
/// assert_eq!(out[..used], [0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 1]);
/// # Ok::<(), nbd_extents::EncodeError>(())
/// ```
pub fn encode_into(
    form: Form,
    context: u32,
    descriptors: impl IntoIterator<Item = Descriptor>,
    out: &mut [u8],
) -> Result<usize, EncodeError> {
    let available = out.len();
    let mut used = form.header_size();
    let mut count = 0;
    for descriptor in descriptors {
        let raw = raw_descriptor(form, count, descriptor)?;
        let bytes = raw.get(..form.descriptor_size()).unwrap_or(&raw);
        put(out, used, bytes).ok_or(EncodeError::NoRoom { needed: used + bytes.len(), available })?;
        used += bytes.len();
        count += 1;
    }
    if count == 0 {
        return Err(EncodeError::Empty);
    }
    let no_room = EncodeError::NoRoom { needed: used, available };
    put(out, 0, &context.to_be_bytes()).ok_or(no_room)?;
    if form == Form::Extended {
        let count = u32::try_from(count).map_err(|_| no_room)?;
        put(out, 4, &count.to_be_bytes()).ok_or(no_room)?;
    }
    Ok(used)
}

/// Encodes the payload of a status chunk into a new buffer.
///
/// # Errors
///
/// Those of [`encode_into`], except for the room.
///
/// ```
/// use nbd_extents::wire::{Descriptor, Form, encode, parse_extended};
///
/// let list = [Descriptor { length: 1 << 40, flags: 3 }];
/// let payload = encode(Form::Extended, 0, list)?;
/// assert!(parse_extended(&payload).unwrap().descriptors().eq(list));
/// # Ok::<(), nbd_extents::EncodeError>(())
/// ```
#[cfg(feature = "alloc")]
pub fn encode(
    form: Form,
    context: u32,
    descriptors: impl IntoIterator<Item = Descriptor, IntoIter: ExactSizeIterator>,
) -> Result<Vec<u8>, EncodeError> {
    let descriptors = descriptors.into_iter();
    let no_room = EncodeError::NoRoom { needed: usize::MAX, available: usize::MAX };
    let mut out = alloc::vec![0; encoded_size(form, descriptors.len()).ok_or(no_room)?];
    let used = encode_into(form, context, descriptors, &mut out)?;
    out.truncate(used);
    Ok(out)
}

/// A payload that is written descriptor by descriptor. No rule is checked: a survey judges the
/// lists that it is given, also those that no server may send.
#[cfg(feature = "alloc")]
pub(crate) struct PayloadWriter {
    form: Form,
    bytes: Vec<u8>,
}

#[cfg(feature = "alloc")]
impl PayloadWriter {
    /// Writes the header of a payload, with room for `count` descriptors.
    pub(crate) fn new(form: Form, context: u32, count: usize) -> Self {
        let mut bytes = Vec::with_capacity(encoded_size(form, count).unwrap_or_default());
        bytes.extend_from_slice(&context.to_be_bytes());
        if form == Form::Extended {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        Self { form, bytes }
    }

    /// Writes a descriptor. In the compact form its numbers must have 32 bits.
    #[inline]
    pub(crate) fn push(&mut self, Descriptor { length, flags }: Descriptor) {
        match self.form {
            Form::Compact => {
                for number in [length, flags] {
                    let [high @ .., a, b, c, d] = number.to_be_bytes();
                    debug_assert_eq!(high, [0; 4], "{number} has 32 bits");
                    self.bytes.extend_from_slice(&[a, b, c, d]);
                }
            }
            Form::Extended => {
                self.bytes.extend_from_slice(&length.to_be_bytes());
                self.bytes.extend_from_slice(&flags.to_be_bytes());
            }
        }
    }

    /// The number of bytes written.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

/// The bytes of one descriptor; in the compact form, the first half.
fn raw_descriptor(form: Form, index: usize, descriptor: Descriptor) -> Result<[u8; 16], EncodeError> {
    let Descriptor { length, flags } = descriptor;
    if length == 0 {
        return Err(EncodeError::ZeroLength { index });
    }
    let both = match form {
        Form::Extended => u128::from(length) << 64 | u128::from(flags),
        Form::Compact => {
            let too_wide = |_| EncodeError::TooWide { index, length, flags };
            let length = u32::try_from(length).map_err(too_wide)?;
            let flags = u32::try_from(flags).map_err(too_wide)?;
            u128::from(length) << 96 | u128::from(flags) << 64
        }
    };
    Ok(both.to_be_bytes())
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    out.get_mut(at..at.checked_add(bytes.len())?)?.copy_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: [Descriptor; 2] =
        [Descriptor { length: 0x0102_0304, flags: 3 }, Descriptor { length: 5, flags: 0xffff_ffff }];

    #[test]
    fn compact_bytes() {
        let mut out = [0xa5; 21];
        assert_eq!(encode_into(Form::Compact, 7, LIST, &mut out), Ok(20));
        let expected = [0, 0, 0, 7, 1, 2, 3, 4, 0, 0, 0, 3, 0, 0, 0, 5, 255, 255, 255, 255, 0xa5];
        assert_eq!(out, expected);
    }

    #[test]
    fn extended_bytes() {
        let mut out = [0xa5; 40];
        assert_eq!(encode_into(Form::Extended, 7, LIST, &mut out), Ok(40));
        assert_eq!(out[..16], [0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(out[32..], [0, 0, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let mut out = [0; 64];
        assert_eq!(encode_into(Form::Compact, 0, [], &mut out), Err(EncodeError::Empty));
        let empty = Descriptor { length: 0, flags: 0 };
        let index = LIST.len();
        let list = LIST.into_iter().chain([empty]);
        assert_eq!(encode_into(Form::Compact, 0, list, &mut out), Err(EncodeError::ZeroLength { index }));
        let wide = Descriptor { length: 1 << 32, flags: 0 };
        let too_wide = EncodeError::TooWide { index: 0, length: 1 << 32, flags: 0 };
        assert_eq!(encode_into(Form::Compact, 0, [wide], &mut out), Err(too_wide));
        assert_eq!(encode_into(Form::Extended, 0, [wide], &mut out), Ok(24));
        let flags = Descriptor { length: 1, flags: 1 << 32 };
        assert!(matches!(encode_into(Form::Compact, 0, [flags], &mut out), Err(EncodeError::TooWide { .. })));
    }

    #[test]
    fn a_small_buffer_is_an_error_with_the_numbers() {
        for room in 0..20 {
            let mut out = [0; 20];
            let error = encode_into(Form::Compact, 0, LIST, &mut out[..room]).unwrap_err();
            // up to the end of the descriptor that did not fit
            let needed = if room < 12 { 12 } else { 20 };
            assert_eq!(error, EncodeError::NoRoom { needed, available: room });
        }
    }
}
