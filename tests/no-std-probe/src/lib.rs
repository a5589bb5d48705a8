//! A library without std that uses nbd-extents. It builds only if nothing in its graph links std (a
//! second panic handler is an error), and, without the feature `alloc`, only if nothing links alloc
//! (there is no global allocator then).

#![no_std]

use core::panic::PanicInfo;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(feature = "alloc")]
mod allocator {
    use core::alloc::{GlobalAlloc, Layout};

    struct Nothing;

    // SAFETY: it never hands out memory, which is always a valid answer.
    unsafe impl GlobalAlloc for Nothing {
        unsafe fn alloc(&self, _: Layout) -> *mut u8 {
            core::ptr::null_mut()
        }
        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    #[global_allocator]
    static ALLOCATOR: Nothing = Nothing;
}

/// Decodes, places and merges two replies: what remains without alloc.
#[unsafe(no_mangle)]
pub extern "C" fn dirty_bytes() -> u64 {
    use nbd_extents::stream::{ExtentStream, place};
    use nbd_extents::wire::parse_compact;

    let bitmap = [0, 0, 0, 2, 0, 0, 16, 0, 0, 0, 0, 1];
    let allocation = [0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0];
    let (Ok(bitmap), Ok(allocation)) = (parse_compact(&bitmap), parse_compact(&allocation)) else {
        return 0;
    };
    let merged = place(bitmap.descriptors(), 0).merge(place(allocation.descriptors(), 0), |a, b| a & !b & 1);
    merged.fold(0, |sum, extent| sum + extent.length() * extent.status()).unwrap_or(0)
}

/// Builds a survey, so that alloc's part of the crate is linked as well.
#[cfg(feature = "alloc")]
#[unsafe(no_mangle)]
pub extern "C" fn requests() -> u64 {
    use nbd_extents::wire::Form;
    use nbd_extents::{ExportParams, Context, Contexts, Survey, SurveyOptions};

    let survey = || {
        let wanted = Contexts::new().require(Context::Allocation).ok()?;
        let contexts = wanted.negotiate([(0, "base:allocation")]).ok()?;
        let export = ExportParams::new(4096, Form::Compact).ok()?.read_only(true);
        let mut survey = Survey::together(SurveyOptions::new(export), contexts).ok()?;
        survey.next_request().ok()?;
        Some(survey.stats().requests)
    };
    survey().unwrap_or(0)
}
