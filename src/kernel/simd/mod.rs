//! The feature `simd`: everything in the kernel that depends on the processor. The answers are the
//! same.
//!
//! ```text
//! dispatch     runs a loop that is compiled three times: for any processor, for AVX2, for AVX-512
//!              (only if the loop is small enough to be inlined: look at the code that comes out)
//! decode       decodes eight descriptors at once where the processor has AVX-512 (avx512.rs)
//! drop_cuts    drops ties and unwanted cuts eight at a time, where there is AVX-512
//! prefetch     asks for memory before it is needed
//! ```
//!
//! The processor's features are looked up once. Without the feature, `dispatch` only calls, and the others do
//! nothing.

#[cfg(all(feature = "simd", target_arch = "x86_64"))]
mod avx512;
mod decode;
mod drop;
mod prefetch;

pub(super) use decode::decode;
pub(super) use drop::drop_cuts;
pub(super) use prefetch::prefetch;

/// The instruction set that the kernel uses.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Processor {
    /// Instructions that every processor has.
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

    /// The instruction set in use, as a number; 0 until the processor has been looked at.
    static USED: AtomicU8 = AtomicU8::new(0);

    impl Processor {
        /// The instruction set in use.
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

        /// Limits the kernels of all threads to this instruction set, for tests and benches.
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
        macro_rules! has {
            ($($feature:tt)*) => { [$(is_x86_feature_detected!($feature)),*] };
        }
        best_of(has!("avx2" "bmi2"), has!("avx512f" "avx512bw" "avx512dq" "avx512vl" "bmi2" "popcnt"))
    }

    /// The best of the instruction sets whose features the processor has all.
    pub(super) fn best_of(avx2: [bool; 2], avx512: [bool; 6]) -> Processor {
        if avx512 == [true; 6] {
            Processor::Avx512
        } else if avx2 == [true; 2] {
            Processor::Avx2
        } else {
            Processor::Any
        }
    }

    /// Runs `f`, compiled for this processor: `f` is inlined into a function that has the
    /// instruction set.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests of every kernel rely on it. The best that there is comes last, and stays.
    #[test]
    fn the_kernel_can_be_limited() {
        let all = [Processor::Any, Processor::Avx2, Processor::Avx512];
        all[2].limit();
        let best = Processor::found();
        for limit in all {
            limit.limit();
            assert_eq!(Processor::found(), limit.min(best));
            assert_eq!(dispatch(|| 7), 7);
        }
    }

    /// A kernel that lacks one feature would end the program, and this processor may have all.
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    #[test]
    fn an_instruction_set_needs_all_its_features() {
        use super::x86_64::best_of;
        assert_eq!(best_of([true; 2], [true; 6]), Processor::Avx512);
        for missing in 0..6 {
            let mut avx512 = [true; 6];
            avx512[missing] = false;
            assert_eq!(best_of([true; 2], avx512), Processor::Avx2);
            for avx2 in [[false; 2], [false, true], [true, false]] {
                assert_eq!(best_of(avx2, avx512), Processor::Any);
            }
        }
    }
}
