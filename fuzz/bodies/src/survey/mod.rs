//! `survey`: the input is a case (see [`case`]) and what a server does then. Asserts that requests are legal; that extents come in
//! order, without a gap, in their shortest form, and only about what was answered; that a reply that failed leaves no trace; that the
//! budget holds; that a survey that says it is complete is; and, byte for byte, that what is handed out is what the deciding replies said
//! (see [`oracle`]): nothing that was called dirty comes out clean, nothing that was called non-zero comes out zero.
//!
//! ```text
//! a case   14 bytes, see case.rs
//! steps    {op:1 ...}*, where op / 32 chooses the reply that goes on, of those in flight, and op % 8 is
//!   0-2    a whole reply: for each context asked about, count:1 (modulo 16) {length:2 (modulo 8192) flags:1}*.
//!          op / 8 % 4 turns their order around. Bit 7 of flags is bit 40, for what does not fit 32 bits
//!   3      the same without the end of the reply
//!   4      a raw chunk: length:1 bytes
//!   5      the end of the reply
//!   6      the server fails the request
//!   7      nonsense: admission of a chunk of so many bytes:4, and calls about a request that is over
//! ```
//!
//! Behind the last step an honest server answers all that is asked, so that most cases come to their end.

mod case;
mod oracle;
mod run;

use super::bytes::Bytes;
use case::Case;
use run::Run;

pub fn survey(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let case = Case::read(&mut bytes);
    let mut run = Run::new(case);
    while !bytes.is_empty() && run.request() {
        run.step(&mut bytes);
    }
    run.finish();
}
