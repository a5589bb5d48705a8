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
//! The limited API of Python 3.9 has no buffer protocol, so a buffer is read by way of
//! `memoryview(x).tobytes()`: one copy, made by Python, whatever the strides.

use nbd_extents::wire::{Pair32, Pair64};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PyString, PyTuple};

/// The entries of one context. Bytes that Python holds are borrowed from there.
pub(crate) enum Entries<'py> {
    /// A buffer of 32-bit pairs, aligned for them.
    Bytes32(Bound<'py, PyBytes>),
    /// Two columns of 32-bit numbers, put together.
    Pairs32(Vec<Pair32>),
    /// Everything else.
    Pairs64(Vec<Pair64>),
}

/// The same, as slices that are read without the GIL.
#[derive(Clone, Copy)]
pub(crate) enum Pairs<'a> {
    Narrow(&'a [Pair32]),
    Wide(&'a [Pair64]),
}

impl<'py> Entries<'py> {
    /// Reads entries of any shape.
    pub(crate) fn read(entries: &Bound<'py, PyAny>) -> PyResult<Self> {
        // the two shapes of libnbd first: both are lists, and no list has a buffer
        if let Ok(list) = entries.cast_exact::<PyList>() {
            return Ok(Self::Pairs64(from_list(list)?));
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
            return Buffer::new(&view)?.into_entries();
        }
        // any other iterable becomes a list; an exception that it raises goes to the caller
        let list = PyList::empty(entries.py());
        for item in entries.try_iter()? {
            list.append(item?)?;
        }
        Ok(Self::Pairs64(from_list(&list)?))
    }

    pub(crate) fn pairs(&self) -> PyResult<Pairs<'_>> {
        Ok(match self {
            Self::Bytes32(bytes) => Pairs::Narrow(aligned(bytes)?),
            Self::Pairs32(pairs) => Pairs::Narrow(pairs),
            Self::Pairs64(pairs) => Pairs::Wide(pairs),
        })
    }
}

fn aligned<'a>(bytes: &'a Bound<'_, PyBytes>) -> PyResult<&'a [Pair32]> {
    bytemuck::try_cast_slice(bytes.as_bytes())
        .map_err(|error| PyValueError::new_err(format!("a buffer that cannot be read: {error}")))
}

/// A flat list, or one of tuples: the first item says which, and all must be alike.
fn from_list(list: &Bound<'_, PyList>) -> PyResult<Vec<Pair64>> {
    match list.get_item(0) {
        Ok(first) if first.is_instance_of::<PyTuple>() || first.is_instance_of::<PyList>() => {
            list.iter().map(|item| pair(&item)).collect()
        }
        _ => from_flat_list(list),
    }
}

fn from_flat_list(list: &Bound<'_, PyList>) -> PyResult<Vec<Pair64>> {
    let mut pairs = Vec::with_capacity(list.len() / 2);
    let mut items = list.iter();
    while let Some(length) = items.next() {
        let length = number(&length)?;
        let flags = items.next().ok_or_else(|| odd(list.len()))?;
        pairs.push((length, number(&flags)?));
    }
    Ok(pairs)
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
fn from_columns<'py>(columns: &Bound<'py, PyTuple>) -> PyResult<Option<Entries<'py>>> {
    if columns.len() != 2 {
        return Ok(None);
    }
    let (lengths, flags) = (columns.get_item(0)?, columns.get_item(1)?);
    let (Ok(lengths), Ok(flags)) = (PyMemoryView::from(&lengths), PyMemoryView::from(&flags)) else {
        return Ok(None);
    };
    let (lengths, flags) = (Buffer::new(&lengths)?, Buffer::new(&flags)?);
    let (lengths, flags) = (lengths.column()?, flags.column()?);
    if lengths.len() != flags.len() {
        return Err(PyValueError::new_err(format!(
            "{} lengths and {} flags are not (length, flags) pairs",
            lengths.len(),
            flags.len()
        )));
    }
    Ok(Some(match (lengths, flags) {
        // half the memory of wide pairs, and the kernel's own representation
        (Column::Narrow(lengths), Column::Narrow(flags)) => {
            let pairs = lengths.iter().zip(flags);
            Entries::Pairs32(pairs.map(|(l, f)| [u32::from_ne_bytes(*l), u32::from_ne_bytes(*f)]).collect())
        }
        (lengths, flags) => Entries::Pairs64(lengths.numbers().zip(flags.numbers()).collect()),
    }))
}

/// The numbers of a flat buffer.
#[derive(Clone, Copy)]
enum Column<'a> {
    Narrow(&'a [[u8; 4]]),
    Wide(&'a [[u8; 8]]),
}

impl<'a> Column<'a> {
    const fn len(self) -> usize {
        match self {
            Self::Narrow(numbers) => numbers.len(),
            Self::Wide(numbers) => numbers.len(),
        }
    }

    fn numbers(self) -> impl Iterator<Item = u64> + 'a {
        let (narrow, wide) = match self {
            Self::Narrow(numbers) => (numbers, [].as_slice()),
            Self::Wide(numbers) => ([].as_slice(), numbers),
        };
        let narrow = narrow.iter().map(|&number| u64::from(u32::from_ne_bytes(number)));
        narrow.chain(wide.iter().map(|&number| u64::from_ne_bytes(number)))
    }
}

/// A buffer of integers, copied.
struct Buffer<'py> {
    bytes: Bound<'py, PyBytes>,
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
        let two_columns = match shape.as_slice() {
            [_] => false,
            [_, 2] => true,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "a buffer of shape {shape:?} is neither flat nor of two columns (length, flags)"
                )));
            }
        };
        let bytes = view.call_method0("tobytes")?.cast_into::<PyBytes>()?;
        Ok(Self { bytes, wide: size == 8, signed, two_columns })
    }

    /// All numbers, of a buffer that is one column.
    fn column(&self) -> PyResult<Column<'_>> {
        if self.two_columns {
            return Err(PyValueError::new_err("a column of lengths or flags has one dimension"));
        }
        self.check_signs()?;
        let bytes = self.bytes.as_bytes();
        Ok(if self.wide { Column::Wide(bytes.as_chunks().0) } else { Column::Narrow(bytes.as_chunks().0) })
    }

    fn into_entries(self) -> PyResult<Entries<'py>> {
        self.check_signs()?;
        let bytes = self.bytes.as_bytes();
        let size = if self.wide { 8 } else { 4 };
        if !bytes.len().is_multiple_of(2 * size) {
            return Err(odd(bytes.len() / size));
        }
        if !self.wide {
            aligned(&self.bytes)?;
            return Ok(Entries::Bytes32(self.bytes));
        }
        let (numbers, _) = bytes.as_chunks::<8>();
        let (pairs, _) = numbers.as_chunks::<2>();
        let pairs = pairs.iter().map(|[l, f]| (u64::from_ne_bytes(*l), u64::from_ne_bytes(*f)));
        Ok(Entries::Pairs64(pairs.collect()))
    }

    /// A negative number is refused, as it is in a list.
    fn check_signs(&self) -> PyResult<()> {
        let bytes = self.bytes.as_bytes();
        let negative = self.signed
            && if self.wide {
                bytes.as_chunks().0.iter().any(|&number| i64::from_ne_bytes(number) < 0)
            } else {
                bytes.as_chunks().0.iter().any(|&number| i32::from_ne_bytes(number) < 0)
            };
        if negative {
            return Err(PyOverflowError::new_err("a buffer of entries holds a negative number"));
        }
        Ok(())
    }
}

fn wrong_format(format: &str) -> PyErr {
    PyValueError::new_err(format!(
        "a buffer of format '{format}' is not one of 32-bit or 64-bit integers in native byte order"
    ))
}
