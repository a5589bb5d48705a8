//! Which processor the kernels run for. With the feature `simd` it is looked at once; some loops are then compiled again for wider registers, and a few are written
//! for them (`avx512.rs`).

/// What a processor can do for the kernels.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Processor {
    /// Nothing that is not everywhere.
    Any = 1,
    /// 256-bit registers.
    Avx2,
    /// 512-bit registers.
    Avx512,
}

#[cfg(not(all(feature = "simd", target_arch = "x86_64")))]
impl Processor {
    /// Without the feature `simd` every processor is any.
    #[must_use]
    pub const fn found() -> Self {
        Self::Any
    }

    /// Without the feature `simd` there is nothing to be limited.
    pub const fn limit(self) {}
}

/// Runs `f`, compiled for this processor.
#[cfg(not(all(feature = "simd", target_arch = "x86_64")))]
#[inline(always)]
pub(crate) fn dispatch<T>(f: impl FnOnce() -> T) -> T {
    f()
}

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
pub(crate) use x86_64::dispatch;

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "the feature `simd`: calls of functions that need an instruction set")]
mod x86_64 {
    use super::Processor;
    use core::sync::atomic::{AtomicU8, Ordering};
    use std::arch::is_x86_feature_detected;

    /// What is used, as a number; 0 before it was looked.
    static USED: AtomicU8 = AtomicU8::new(0);

    impl Processor {
        /// What the kernels use.
        #[inline]
        #[must_use]
        pub fn found() -> Self {
            match USED.load(Ordering::Relaxed) {
                0 => look(),
                1 => Self::Any,
                2 => Self::Avx2,
                _ => Self::Avx512,
            }
        }

        /// From now on, and for all threads, the kernels use no more than this, and no more than there is. For tests and benches: the answers are
        /// the same.
        pub fn limit(self) {
            USED.store(self.min(best()) as u8, Ordering::Relaxed);
        }
    }

    #[cold]
    fn look() -> Processor {
        let best = best();
        USED.store(best as u8, Ordering::Relaxed);
        best
    }

    fn best() -> Processor {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt")
        {
            Processor::Avx512
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
            Processor::Avx2
        } else {
            Processor::Any
        }
    }

    /// Runs `f`, compiled for this processor.
    ///
    /// `f` is inlined into the function that has the instruction set; that is what makes it faster, and nothing else depends on it.
    #[inline]
    pub(crate) fn dispatch<T>(f: impl FnOnce() -> T) -> T {
        match Processor::found() {
            // SAFETY: `best` has found each of the features that `avx512` is compiled for.
            Processor::Avx512 => unsafe { avx512(f) },
            // SAFETY: `best` has found each of the features that `avx2` is compiled for.
            Processor::Avx2 => unsafe { avx2(f) },
            Processor::Any => f(),
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2,popcnt")]
    fn avx512<T>(f: impl FnOnce() -> T) -> T {
        f()
    }

    #[target_feature(enable = "avx2,bmi2")]
    fn avx2<T>(f: impl FnOnce() -> T) -> T {
        f()
    }
}
