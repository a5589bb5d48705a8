//! Entries: the (length, flags) pairs of one context, in every shape in which Python programs
//! hold them.
//!
//! | shape | from |
//! |---|---|
//! | flat list `[length, flags, length, flags, ...]` | libnbd's `block_status` |
//! | list of tuples `[(length, flags), ...]` | libnbd's `block_status_64` |
//! | buffer of 4 or 8-byte integers, flat or of two columns | NumPy, `array`, `memoryview` |
//! | pair of buffers `(lengths, flags)` | columns of a table |
//!
//! All become lists of pairs in memory: of 32-bit numbers as long as they fit, which is half the
//! memory and the faster merge. The limited API of Python 3.9 has no buffer protocol, so a buffer is
//! read by way of `memoryview`, in pieces that stay in the processor's cache.

use nbd_extents::wire::{Pair32, Pair64};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice, PyString, PyTuple};

/// The bytes of a buffer that are read at a time: pairs of 4 and of 8-byte numbers fit whole.
const PIECE: usize = 64 << 10;

/// The entries of one context.
#[derive(Debug)]
pub(crate) enum Entries {
    Narrow(Vec<Pair32>),
    /// At least one number does not fit 32 bits.
    Wide(Vec<Pair64>),
}

impl Entries {
    /// Reads entries of any shape.
    pub(crate) fn read(entries: &Bound<'_, PyAny>) -> PyResult<Self> {
        // the two shapes of libnbd first: both are lists, and no list has a buffer
        if let Ok(list) = entries.cast_exact::<PyList>() {
            return from_list(list);
        }
        if entries.is_instance_of::<PyString>() {
            return Err(PyTypeError::new_err("entries are numbers or tuples, not a string"));
        }
        if let Ok(columns) = entries.cast::<PyTuple>()
            && let Some(entries) = from_columns(columns)?
        {
            return Ok(entries);
        }
        if let Ok(view) = PyMemoryView::from(entries) {
            return from_buffer(&Buffer::new(&view)?);
        }
        // any other iterable becomes a list; an exception that it raises goes to the caller
        let list = PyList::empty(entries.py());
        for item in entries.try_iter()? {
            list.append(item?)?;
        }
        from_list(&list)
    }

    fn with_capacity(pairs: usize) -> Self {
        Self::Narrow(Vec::with_capacity(pairs))
    }

    #[inline]
    fn push(&mut self, length: u64, flags: u64) {
        match self {
            Self::Narrow(pairs) => match (u32::try_from(length), u32::try_from(flags)) {
                (Ok(length), Ok(flags)) => pairs.push([length, flags]),
                _ => *self = Self::Wide(widened(pairs, (length, flags))),
            },
            Self::Wide(pairs) => pairs.push((length, flags)),
        }
    }

    /// Adds the pairs of a piece of a buffer: one pass finds out whether they are numbers that fit,
    /// and another, without a branch, copies them.
    fn extend(&mut self, signs: Pair64, mut pairs: impl Iterator<Item = Pair64> + Clone) -> PyResult<()> {
        let join = |(lengths, flags), (length, more)| (lengths | length, flags | more);
        let bits: Pair64 = pairs.clone().fold((0, 0), join);
        if bits.0 & signs.0 != 0 || bits.1 & signs.1 != 0 {
            return Err(PyOverflowError::new_err("a buffer of entries holds a negative number"));
        }
        if (bits.0 | bits.1) > u64::from(u32::MAX)
            && let Self::Narrow(narrow) = self
            && let Some(first) = pairs.next()
        {
            *self = Self::Wide(widened(narrow, first));
        }
        match self {
            #[expect(clippy::cast_possible_truncation, reason = "they fit, as the bits say")]
            Self::Narrow(list) => list.extend(pairs.map(|(length, flags)| [length as u32, flags as u32])),
            Self::Wide(list) => list.extend(pairs),
        }
        Ok(())
    }
}

/// These pairs with 64 bits, and the first that needs them.
#[cold]
fn widened(narrow: &[Pair32], first: Pair64) -> Vec<Pair64> {
    let wide = narrow.iter().map(|&[length, flags]| (u64::from(length), u64::from(flags)));
    wide.chain([first]).collect()
}

/// A flat list, or one of tuples: the first item says which, and all must be alike.
fn from_list(list: &Bound<'_, PyList>) -> PyResult<Entries> {
    match list.get_item(0) {
        Ok(first) if first.is_instance_of::<PyTuple>() || first.is_instance_of::<PyList>() => {
            let mut entries = Entries::with_capacity(list.len());
            for item in list {
                let (length, flags) = pair(&item)?;
                entries.push(length, flags);
            }
            Ok(entries)
        }
        _ => from_flat_list(list),
    }
}

fn from_flat_list(list: &Bound<'_, PyList>) -> PyResult<Entries> {
    let mut entries = Entries::with_capacity(list.len() / 2);
    let mut items = list.iter();
    while let Some(length) = items.next() {
        let length = number(&length)?;
        let flags = items.next().ok_or_else(|| odd(list.len()))?;
        entries.push(length, number(&flags)?);
    }
    Ok(entries)
}

fn odd(got: usize) -> PyErr {
    PyValueError::new_err(format!("a list of {got} numbers is not made of (length, flags) pairs"))
}

#[inline]
fn pair(item: &Bound<'_, PyAny>) -> PyResult<Pair64> {
    if let Ok(tuple) = item.cast_exact::<PyTuple>() {
        if tuple.len() != 2 {
            return Err(not_two(tuple.len()));
        }
        let (length, flags) = (tuple.get_borrowed_item(0)?, tuple.get_borrowed_item(1)?);
        return Ok((number(&length)?, number(&flags)?));
    }
    let list = item.cast::<PyList>().map_err(|_| {
        PyTypeError::new_err("an entry is a (length, flags) tuple, and all entries are alike")
    })?;
    if list.len() != 2 {
        return Err(not_two(list.len()));
    }
    Ok((number(&list.get_item(0)?)?, number(&list.get_item(1)?)?))
}

fn not_two(got: usize) -> PyErr {
    PyValueError::new_err(format!("an entry is a (length, flags) pair, not {got} items"))
}

/// A number from 0 to 2^64 - 1; `OverflowError` outside of it.
#[inline]
fn number(item: &Bound<'_, PyAny>) -> PyResult<u64> {
    item.extract()
}

/// Two buffers, `(lengths, flags)`. `None` for a tuple of anything else.
fn from_columns(columns: &Bound<'_, PyTuple>) -> PyResult<Option<Entries>> {
    if columns.len() != 2 {
        return Ok(None);
    }
    let (lengths, flags) = (columns.get_item(0)?, columns.get_item(1)?);
    let (Ok(lengths), Ok(flags)) = (PyMemoryView::from(&lengths), PyMemoryView::from(&flags)) else {
        return Ok(None);
    };
    let (lengths, flags) = (Buffer::new(&lengths)?, Buffer::new(&flags)?);
    if lengths.two_columns || flags.two_columns {
        return Err(PyValueError::new_err("a column of lengths or flags has one dimension"));
    }
    if lengths.count != flags.count {
        return Err(PyValueError::new_err(format!(
            "{} lengths and {} flags are not (length, flags) pairs",
            lengths.count, flags.count
        )));
    }
    let signs = (lengths.sign(), flags.sign());
    let mut entries = Entries::with_capacity(lengths.count);
    for start in (0..lengths.count).step_by(PIECE / 8) {
        let (l, f) = (lengths.piece(start, PIECE / 8)?, flags.piece(start, PIECE / 8)?);
        let (l, f) = (l.as_bytes(), f.as_bytes());
        match (lengths.wide, flags.wide) {
            (false, false) => entries.extend(signs, narrow(l).zip(narrow(f))),
            (false, true) => entries.extend(signs, narrow(l).zip(wide(f))),
            (true, false) => entries.extend(signs, wide(l).zip(narrow(f))),
            (true, true) => entries.extend(signs, wide(l).zip(wide(f))),
        }?;
    }
    Ok(Some(entries))
}

/// Pairs of numbers that follow each other.
fn from_buffer(buffer: &Buffer<'_>) -> PyResult<Entries> {
    if !buffer.count.is_multiple_of(2) {
        return Err(odd(buffer.count));
    }
    let signs = (buffer.sign(), buffer.sign());
    let mut entries = Entries::with_capacity(buffer.count / 2);
    for start in (0..buffer.count).step_by(PIECE / 8) {
        let piece = buffer.piece(start, PIECE / 8)?;
        if buffer.wide {
            let (pairs, _) = piece.as_bytes().as_chunks::<8>().0.as_chunks();
            entries
                .extend(signs, pairs.iter().map(|[l, f]| (u64::from_ne_bytes(*l), u64::from_ne_bytes(*f))))?;
        } else {
            let (pairs, _) = piece.as_bytes().as_chunks::<4>().0.as_chunks();
            let number = |bytes: &[u8; 4]| u64::from(u32::from_ne_bytes(*bytes));
            entries.extend(signs, pairs.iter().map(|[l, f]| (number(l), number(f))))?;
        }
    }
    Ok(entries)
}

fn narrow(bytes: &[u8]) -> impl Iterator<Item = u64> + Clone + '_ {
    bytes.as_chunks().0.iter().map(|&number| u64::from(u32::from_ne_bytes(number)))
}

fn wide(bytes: &[u8]) -> impl Iterator<Item = u64> + Clone + '_ {
    bytes.as_chunks().0.iter().map(|&number| u64::from_ne_bytes(number))
}

/// A buffer of integers.
struct Buffer<'py> {
    /// Its bytes in order, flat.
    bytes: Bound<'py, PyAny>,
    /// How many numbers there are.
    count: usize,
    wide: bool,
    signed: bool,
    /// Whether each row of it is a pair.
    two_columns: bool,
}

impl<'py> Buffer<'py> {
    fn new(view: &Bound<'py, PyMemoryView>) -> PyResult<Self> {
        let format: String = view.getattr("format")?.extract()?;
        let size: usize = view.getattr("itemsize")?.extract()?;
        let shape: Vec<usize> = view.getattr("shape")?.extract()?;
        let native = if cfg!(target_endian = "little") { '<' } else { '>' };
        let code = format.trim_start_matches(['@', '=', native]);
        let signed = match code {
            "I" | "L" | "Q" | "N" => false,
            "i" | "l" | "q" | "n" => true,
            _ => return Err(wrong_format(&format)),
        };
        if !matches!(size, 4 | 8) {
            return Err(wrong_format(&format));
        }
        let (count, two_columns) = match shape.as_slice() {
            [count] => (*count, false),
            [rows, 2] => (2 * rows, true),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "a buffer of shape {shape:?} is neither flat nor of two columns (length, flags)"
                )));
            }
        };
        // what memoryview cannot show as flat bytes (strides, an empty list), it copies
        let flat = view.call_method1("cast", ("B",));
        let bytes = flat.or_else(|_| view.call_method0("tobytes"))?;
        Ok(Self { bytes, count, wide: size == 8, signed, two_columns })
    }

    /// The bytes of up to `count` numbers, from the number `start` on.
    fn piece(&self, start: usize, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let size = if self.wide { 8 } else { 4 };
        let index = |number: usize| isize::try_from(number * size);
        let (start, end) = (index(start)?, index(self.count.min(start + count))?);
        let piece = self.bytes.get_item(PySlice::new(self.bytes.py(), start, end, 1))?;
        match piece.cast_into::<PyBytes>() {
            Ok(bytes) => Ok(bytes),
            Err(view) => Ok(view.into_inner().call_method0("tobytes")?.cast_into()?),
        }
    }

    /// The bit that is set in negative numbers: they are refused, as they are in a list.
    const fn sign(&self) -> u64 {
        match (self.signed, self.wide) {
            (false, _) => 0,
            (true, false) => 1 << 31,
            (true, true) => 1 << 63,
        }
    }
}

fn wrong_format(format: &str) -> PyErr {
    PyValueError::new_err(format!(
        "a buffer of format '{format}' is not one of 32-bit or 64-bit integers in native byte order"
    ))
}
