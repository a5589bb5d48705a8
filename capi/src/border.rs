//! The border to C, which every function of the interface passes: pointers are checked here, panics end
//! here, and errors become a return value and a message.
//!
//! A function of the interface is one call of [`read`], [`change`], [`make`] or [`destroy`] with the work
//! in a closure. So the rules are kept in one place, and the test `tests::every_entry_is_guarded` can make
//! each of them panic.

use core::cell::{Cell, RefCell};
use core::error::Error;
use core::ffi::{CStr, c_char, c_int};
use core::fmt;
use core::mem::MaybeUninit;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a call failed, in words for the caller.
#[derive(Clone, Debug)]
pub(crate) struct CallFailure(String);

impl CallFailure {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self(message.to_string())
    }
}

/// The whole chain of causes in one line: C has no `source`.
impl<E: Error> From<E> for CallFailure {
    fn from(error: E) -> Self {
        let mut line = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        Self(line)
    }
}

/// A type that functions return to C, with its value for a failure.
pub(crate) trait Returned {
    const FAILED: Self;
}

impl Returned for c_int {
    const FAILED: Self = -1;
}

impl Returned for isize {
    const FAILED: Self = -1;
}

/// The message of the last call on one object, and whether the object is still whole.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    message: RefCell<CString>,
    /// A call panicked halfway: nothing of the object can be relied on.
    broken: Cell<bool>,
}

impl Journal {
    fn note(&self, message: CString) {
        if let Ok(mut place) = self.message.try_borrow_mut() {
            *place = message;
        }
    }
}

/// An object that C holds by a pointer.
pub(crate) trait Object {
    /// The name of an argument of this type in a message.
    const NAME: &'static str;
    fn journal(&self) -> &Journal;
}

thread_local! {
    /// The message of this thread's last call; empty when it succeeded.
    static LAST: RefCell<CString> = RefCell::default();
    /// Makes every guarded call of this thread panic.
    #[cfg(test)]
    pub(crate) static FAULT: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; a panic becomes a [`CallFailure`].
fn guard<R>(work: impl FnOnce() -> Result<R, CallFailure>) -> (Result<R, CallFailure>, bool) {
    let guarded = || {
        #[cfg(test)]
        assert!(!FAULT.get(), "the test asks for a panic");
        work()
    };
    // a closure that panicked may leave its object half changed: the caller marks the object as broken
    match catch_unwind(AssertUnwindSafe(guarded)) {
        Ok(result) => (result, false),
        Err(panic) => {
            let words = panic
                .downcast_ref::<&str>()
                .map(|words| (*words).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            let words = words.unwrap_or_else(|| "no message".into());
            (Err(CallFailure(format!("a fault in nbd_extents, please report it: {words}"))), true)
        }
    }
}

fn message_of<R>(result: &Result<R, CallFailure>) -> CString {
    match result {
        Ok(_) => CString::default(),
        // a NUL would end the message early
        Err(CallFailure(line)) => CString::new(line.replace('\0', "\\0")).unwrap_or_default(),
    }
}

fn note_in_thread(message: CString) {
    // fails only while the thread ends: nobody can ask for the message any more
    let _ = LAST.try_with(|last| last.try_borrow_mut().map(|mut place| *place = message));
}

/// Notes the outcome in the object's journal and for the thread.
fn conclude<R: Returned>(journal: Option<&Journal>, outcome: (Result<R, CallFailure>, bool)) -> R {
    let (result, panicked) = outcome;
    let message = message_of(&result);
    if let Some(journal) = journal {
        journal.broken.set(journal.broken.get() || panicked);
        journal.note(message.clone());
    }
    note_in_thread(message);
    result.unwrap_or(R::FAILED)
}

fn check_whole<O: Object>(object: &O) -> Result<(), CallFailure> {
    if object.journal().broken.get() {
        return Err(CallFailure::new(format_args!(
            "an earlier call on this {} hit a fault in nbd_extents: free it",
            O::NAME
        )));
    }
    Ok(())
}

fn null(what: &str) -> CallFailure {
    CallFailure::new(format_args!("{what} is NULL"))
}

/// Calls `work` with an object that it does not change.
///
/// # Safety
///
/// `object` is NULL, or was made by this library and not freed, and no other thread uses it now.
pub(crate) unsafe fn read<O: Object, R: Returned>(
    object: *const O,
    work: impl FnOnce(&O) -> Result<R, CallFailure>,
) -> R {
    // SAFETY: the caller passes NULL or a live object that no other thread uses
    match unsafe { object.as_ref() } {
        None => conclude(None, (Err(null(O::NAME)), false)),
        Some(object) => {
            let outcome = guard(|| check_whole(object).and_then(|()| work(object)));
            conclude(Some(object.journal()), outcome)
        }
    }
}

/// Calls `work` with an object that it may change.
///
/// # Safety
///
/// As [`read`]; `work` reaches the object by its argument alone.
pub(crate) unsafe fn change<O: Object, R: Returned>(
    object: *mut O,
    work: impl FnOnce(&mut O) -> Result<R, CallFailure>,
) -> R {
    // SAFETY: the caller passes NULL or a live object that nothing else uses during the call
    match unsafe { object.as_mut() } {
        None => conclude(None, (Err(null(O::NAME)), false)),
        Some(object) => {
            let outcome = guard(|| check_whole(object).and_then(|()| work(object)));
            conclude(Some(object.journal()), outcome)
        }
    }
}

/// Makes an object and hands it to C; NULL when `work` fails.
pub(crate) fn make<O>(work: impl FnOnce() -> Result<O, CallFailure>) -> *mut O {
    let (result, _) = guard(work);
    note_in_thread(message_of(&result));
    result.map_or(core::ptr::null_mut(), |object| Box::into_raw(Box::new(object)))
}

/// Drops an object. Leaves the thread's message alone, so that it can be read after the cleaning up.
///
/// # Safety
///
/// `object` is NULL or came from [`make`], and is not used after this call.
pub(crate) unsafe fn destroy<O>(object: *mut O) {
    if !object.is_null() {
        // SAFETY: it came from `make`, so from `Box::into_raw`, and this is the last use of it
        let object = unsafe { Box::from_raw(object) };
        let _ = guard(|| {
            drop(object);
            Ok(())
        });
    }
}

/// The message of the last call on an object. Empty when it succeeded; never NULL.
///
/// # Safety
///
/// As [`read`].
pub(crate) unsafe fn message<O: Object>(object: *const O) -> *const c_char {
    // SAFETY: the caller passes NULL or a live object that no other thread uses
    let Some(object) = (unsafe { object.as_ref() }) else {
        return c"the object is NULL".as_ptr();
    };
    let text = guard(|| Ok(object.journal().message.try_borrow().map(|text| text.as_ptr()))).0;
    // the text lives in the journal until the next call on the object
    text.ok().and_then(Result::ok).unwrap_or(c"".as_ptr())
}

/// The message of this thread's last call. Empty when it succeeded; never NULL.
pub(crate) fn thread_message() -> *const c_char {
    let text = guard(|| Ok(LAST.try_with(|last| last.try_borrow().map(|text| text.as_ptr())))).0;
    text.ok().and_then(Result::ok).and_then(Result::ok).unwrap_or(c"".as_ptr())
}

/// An object that is read beside the one that the call is about.
///
/// # Safety
///
/// As [`read`], for as long as the reference lives.
pub(crate) unsafe fn other<'a, O: Object>(object: *const O) -> Result<&'a O, CallFailure> {
    // SAFETY: the caller passes NULL or a live object that no other thread uses
    let object = unsafe { object.as_ref() }.ok_or_else(|| null(O::NAME))?;
    check_whole(object)?;
    Ok(object)
}

/// As [`other`], for an object that changes as well.
///
/// # Safety
///
/// As [`change`], for as long as the reference lives.
pub(crate) unsafe fn other_mut<'a, O: Object>(object: *mut O) -> Result<&'a mut O, CallFailure> {
    // SAFETY: the caller passes NULL or a live object that nothing else uses
    let object = unsafe { object.as_mut() }.ok_or_else(|| null(O::NAME))?;
    check_whole(object)?;
    Ok(object)
}

/// Calls `work` with the second object of a call, and marks it as broken if `work` panics, as
/// [`change`] does with the first.
pub(crate) fn suspect<O: Object, R>(object: &mut O, work: impl FnOnce(&mut O) -> R) -> R {
    object.journal().broken.set(true);
    let result = work(object);
    object.journal().broken.set(false);
    result
}

/// A value that C wants to be written; `what` names the argument.
///
/// # Safety
///
/// `place` is NULL or points to memory for a `T`.
pub(crate) unsafe fn place<'a, T>(place: *mut T, what: &str) -> Result<&'a mut MaybeUninit<T>, CallFailure> {
    check_pointer(place, 1, what)?;
    // SAFETY: checked above, and the caller's memory is large enough
    unsafe { place.cast::<MaybeUninit<T>>().as_mut() }.ok_or_else(|| null(what))
}

/// `count` values of C's; `what` names the argument. No memory is touched when there are none.
///
/// # Safety
///
/// `first` is NULL or points to `count` values that do not change while the slice lives.
pub(crate) unsafe fn list<'a, T>(first: *const T, count: usize, what: &str) -> Result<&'a [T], CallFailure> {
    if count == 0 {
        return Ok(&[]);
    }
    check_pointer(first, count, what)?;
    // SAFETY: not NULL, aligned and short enough by the check, and the caller's memory holds `count`
    Ok(unsafe { core::slice::from_raw_parts(first, count) })
}

/// Room for `count` values, not yet written; `what` names the argument.
///
/// # Safety
///
/// `first` is NULL or points to memory for `count` values that nothing else uses while the slice lives.
pub(crate) unsafe fn room<'a, T>(
    first: *mut T,
    count: usize,
    what: &str,
) -> Result<&'a mut [MaybeUninit<T>], CallFailure> {
    if count == 0 {
        return Ok(&mut []);
    }
    check_pointer(first, count, what)?;
    // SAFETY: not NULL, aligned and short enough by the check, and the caller's memory holds `count`
    Ok(unsafe { core::slice::from_raw_parts_mut(first.cast::<MaybeUninit<T>>(), count) })
}

fn check_pointer<T>(first: *const T, count: usize, what: &str) -> Result<(), CallFailure> {
    if first.is_null() {
        return Err(null(what));
    }
    if !first.is_aligned() {
        let align = align_of::<T>();
        return Err(CallFailure::new(format_args!("{what} is not aligned to {align} bytes")));
    }
    let most = isize::MAX.unsigned_abs() / size_of::<T>().max(1);
    if count > most {
        return Err(CallFailure::new(format_args!("{what}: {count} entries do not fit in memory")));
    }
    Ok(())
}

/// A string of C's.
///
/// # Safety
///
/// `text` is NULL, or ends with a NUL and does not change while the reference lives.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<&'a str, CallFailure> {
    if text.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, and the caller ended it with a NUL
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| CallFailure::new(format_args!("{what} is not UTF-8")))
}

/// Writes what `next` gives to `out`, until either ends, and says how many were written.
///
/// # Errors
///
/// The first error of `next`, after which its source is over; and no room at all, which C could not tell
/// from "nothing now".
#[inline]
pub(crate) fn fill<T>(
    out: &mut [MaybeUninit<T>],
    mut next: impl FnMut() -> Result<Option<T>, CallFailure>,
) -> Result<isize, CallFailure> {
    if out.is_empty() {
        return Err(CallFailure::new("the capacity is 0"));
    }
    let mut written = 0;
    for place in out {
        let Some(item) = next()? else { break };
        place.write(item);
        written += 1;
    }
    Ok(written)
}

/// Writes as many rows as there is room for, and says how many there are.
pub(crate) fn table<T>(out: &mut [MaybeUninit<T>], rows: impl Iterator<Item = T>) -> isize {
    let mut out = out.iter_mut();
    let mut number = 0;
    for row in rows {
        if let Some(place) = out.next() {
            place.write(row);
        }
        number += 1;
    }
    number
}
