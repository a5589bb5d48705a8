//! Waits for a future without a runtime: the thread sleeps until the future's waker wakes it.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use std::thread::{self, Thread};

struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static WAKER: Waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
}

/// The output of a future, which must need no runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = WAKER.with(|waker| future.as_mut().poll(&mut Context::from_waker(waker)))
        {
            return output;
        }
        // others may have unparked the thread: the future is just asked again
        thread::park();
    }
}
