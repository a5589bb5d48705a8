//! Reads the commonest kind of list: of flat JSON objects, one a range.

use std::io::Read;

use nbd_extents::ExtentError;

use crate::fault::Fault;
use crate::fields::Fields;
use crate::input::Input;
use crate::spec::{Decoder, Step, Syntax};

/// A row that is a flat JSON object.
pub(crate) struct Object<T> {
    /// The fields; the first two are the start of the range and its length.
    pub(crate) fields: &'static [&'static str],
    /// Reads the status of a range.
    pub(crate) read: fn(&Fields) -> Result<T, Fault>,
}

impl<T: 'static> Object<T> {
    /// Reads the objects of an array.
    pub(crate) fn array(self) -> Decoder<T> {
        self.list(false)
    }

    /// Reads the objects of an array, in which a single one of length 0 stands for an empty disk.
    pub(crate) fn array_of_qemu(self) -> Decoder<T> {
        self.list(true)
    }

    fn list(self, of_qemu: bool) -> Decoder<T> {
        let mut begun = false;
        let next = move |input: &mut Input<dyn Read + '_>| {
            let first = !std::mem::replace(&mut begun, true);
            if first {
                input.punctuation(b'[', "a list in brackets")?;
            }
            if !input.item(b']')? {
                input.end()?;
                return Ok(Step::End(None));
            }
            let row = self.row(input)?;
            if of_qemu && first && matches!(row, Step::Row(0, 0, _)) {
                if input.item(b']')? {
                    return Err(ExtentError::Empty { start: 0 }.into());
                }
                return Ok(Step::End(None));
            }
            Ok(row)
        };
        Decoder { syntax: Syntax::Json, unlisted: None, next: Box::new(next) }
    }

    /// Reads objects that follow each other.
    pub(crate) fn lines(self) -> Decoder<T> {
        let next = move |input: &mut Input<dyn Read + '_>| match input.peek()? {
            Some(_) => self.row(input),
            None => Ok(Step::End(None)),
        };
        Decoder { syntax: Syntax::JsonLines, unlisted: None, next: Box::new(next) }
    }

    fn row(&self, input: &mut Input<dyn Read + '_>) -> Result<Step<T>, Fault> {
        let fields = input.fields(self.fields)?;
        Ok(Step::Row(fields.number(0)?, fields.number(1)?, (self.read)(&fields)?))
    }
}
