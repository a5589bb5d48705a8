//! The same safe source, compiled once more for the processors of today: with wider registers the compiler finds more in it. Behind the feature
//! `simd`, and found at run time.

/// Runs `f`, compiled for the best instruction set that this processor has.
///
/// `f` is inlined into the function that has the instruction set; that is what makes it faster, and nothing else depends on it.
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
    use std::arch::is_x86_feature_detected;

    /// Runs `f`, compiled for the best instruction set that this processor has.
    #[inline]
    pub(crate) fn dispatch<T>(f: impl FnOnce() -> T) -> T {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("bmi2")
        {
            // SAFETY: the processor has each of the features that `avx512` is compiled for: they have just been asked for.
            unsafe { avx512(f) }
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
            // SAFETY: the processor has each of the features that `avx2` is compiled for: they have just been asked for.
            unsafe { avx2(f) }
        } else {
            f()
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2")]
    fn avx512<T>(f: impl FnOnce() -> T) -> T {
        f()
    }

    #[target_feature(enable = "avx2,bmi2")]
    fn avx2<T>(f: impl FnOnce() -> T) -> T {
        f()
    }
}
