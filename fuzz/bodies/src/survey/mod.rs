//! `survey`: the input is a case (see `case.rs`) and the actions of a server. Asserts that requests
//! are legal; that extents come in order, without a gap, in their shortest form, and only about
//! answered bytes; that a failed reply leaves no trace; that the budget holds; that a survey that
//! reports completion is complete; and, byte for byte, that the extents equal the deciding replies
//! (see `oracle.rs`): no byte reported dirty comes out clean, none reported non-zero comes out zero.
//!
//! ```text
//! a case   14 bytes, see case.rs
//! steps    {op:1 ...}*, where op / 32 chooses one of the replies in flight, and op % 8 is
//!   0-2    a whole reply: for each requested context, count:1 (modulo 16)
//!          {length:2 (modulo 8192) flags:1}*. op / 8 % 4 rotates their order. Bit 7 of flags is
//!          bit 40, for flags beyond 32 bits
//!   3      the same without the end of the reply
//!   4      a raw chunk: length:1 bytes
//!   5      the end of the reply
//!   6      the server fails the request
//!   7      invalid calls: admission of a chunk with this number of bytes:4, and calls about a
//!          request that is over
//! ```
//!
//! After the last step an honest server answers all requests, so that most cases complete.

mod case;
mod oracle;
mod run;

use super::bytes::Bytes;
use case::SurveyCase;
use run::ScriptedSurvey;

pub fn survey(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let case = SurveyCase::read(&mut bytes);
    let mut run = ScriptedSurvey::new(case);
    while !bytes.is_empty() && run.request() {
        run.step(&mut bytes);
    }
    run.finish();
}
