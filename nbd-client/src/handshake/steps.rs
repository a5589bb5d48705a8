//! The options in their order: which one is sent next, after an ACK and after an error.

use super::{Handshake, HandshakeError, Refusal, Stage};
use crate::frame::{
    Headers, OptionName, OptionReply, contexts_data, go_data, info_type, option_type, put_option,
};
use crate::text::ServerText;

/// The option under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    StartTls,
    ExtendedHeaders,
    StructuredReply,
    SetContexts,
    ListContexts,
    /// Servers as old as qemu 3.0 leave their own contexts out of a plain list.
    ListQemuContexts,
    ListExports,
    Go,
}

impl Step {
    /// The option of this step.
    pub(super) const fn name(self) -> OptionName {
        OptionName(match self {
            Self::StartTls => option_type::STARTTLS,
            Self::ExtendedHeaders => option_type::EXTENDED_HEADERS,
            Self::StructuredReply => option_type::STRUCTURED_REPLY,
            Self::SetContexts => option_type::SET_META_CONTEXT,
            Self::ListContexts | Self::ListQemuContexts => option_type::LIST_META_CONTEXT,
            Self::ListExports => option_type::LIST,
            Self::Go => option_type::GO,
        })
    }
}

impl Handshake {
    pub(super) fn acknowledged(&mut self, step: Step) -> Result<(), HandshakeError> {
        match step {
            Step::StartTls => self.expect(Stage::StartTls, 0),
            Step::ExtendedHeaders => self.headers_agreed(Headers::Extended),
            Step::StructuredReply => self.headers_agreed(Headers::Structured),
            Step::SetContexts => self.contexts_settled(),
            Step::ListContexts | Step::ListQemuContexts => {
                self.draft.listed();
                let lists_qemu = step == Step::ListContexts && self.draft.shows_no_qemu();
                self.start(if lists_qemu { Step::ListQemuContexts } else { Step::Go });
            }
            Step::ListExports => {
                put_option(&mut self.output, option_type::ABORT, &[]);
                self.expect(Stage::Finished, 0);
            }
            Step::Go => return self.finish(),
        }
        Ok(())
    }

    /// Any error of an option: most only mean that there is less to be had.
    pub(super) fn refused(&mut self, step: Step, kind: u32, payload: &[u8]) -> Result<(), HandshakeError> {
        let reason = Refusal::from_kind(kind);
        let error = self.refusal(step, reason, ServerText::new(payload));
        if reason == Refusal::Shutdown {
            return self.abort(error);
        }
        match step {
            Step::StartTls | Step::ListExports => return self.abort(error),
            Step::ExtendedHeaders if self.config.structured_replies => self.start(Step::StructuredReply),
            Step::ExtendedHeaders | Step::StructuredReply => self.start(Step::Go),
            Step::SetContexts => {
                self.draft.refuse_contexts(error);
                self.contexts_settled();
            }
            Step::ListContexts | Step::ListQemuContexts => {
                self.draft.refuse_list();
                self.start(Step::Go);
            }
            Step::Go if reason == Refusal::Unsupported && self.draft.export.headers != Headers::Extended => {
                put_option(&mut self.output, option_type::EXPORT_NAME, self.config.export.as_bytes());
                self.expect(Stage::ExportName, if self.no_zeroes { 10 } else { 134 });
            }
            Step::Go => return self.abort(error),
        }
        Ok(())
    }

    fn refusal(&self, step: Step, reason: Refusal, text: ServerText) -> HandshakeError {
        if reason == Refusal::UnknownExport {
            HandshakeError::ExportUnknown { export: self.config.export.as_str().into(), text }
        } else {
            HandshakeError::Refused { option: step.name(), reason, text }
        }
    }

    /// Leaves the handshake in the way that servers like.
    fn abort(&mut self, error: HandshakeError) -> Result<(), HandshakeError> {
        put_option(&mut self.output, option_type::ABORT, &[]);
        Err(error)
    }

    pub(super) fn first_step(&mut self) {
        self.start(if self.config.list_exports {
            Step::ListExports
        } else if self.config.extended_headers {
            Step::ExtendedHeaders
        } else if self.config.structured_replies {
            Step::StructuredReply
        } else {
            Step::Go
        });
    }

    fn headers_agreed(&mut self, headers: Headers) {
        self.draft.export.headers = headers;
        if !self.config.contexts.is_empty() {
            self.start(Step::SetContexts);
        } else {
            self.contexts_settled();
        }
    }

    fn contexts_settled(&mut self) {
        let list = self.config.list_contexts || self.draft.lacks_context(&self.config);
        self.start(if list { Step::ListContexts } else { Step::Go });
    }

    /// Sends the option of `step` and waits for its replies.
    pub(super) fn start(&mut self, step: Step) {
        let export = self.config.export.as_str();
        let data = match step {
            Step::SetContexts => {
                let names: Vec<&str> = self.config.contexts.iter().map(|asked| asked.name.as_str()).collect();
                contexts_data(export, &names)
            }
            Step::ListContexts => contexts_data(export, &[]),
            Step::ListQemuContexts => contexts_data(export, &["qemu:"]),
            Step::Go => go_data(export, &[info_type::NAME, info_type::DESCRIPTION, info_type::BLOCK_SIZE]),
            Step::StartTls | Step::ExtendedHeaders | Step::StructuredReply | Step::ListExports => Vec::new(),
        };
        put_option(&mut self.output, step.name().0, &data);
        self.replies = 0;
        self.expect(Stage::Header(step), OptionReply::LEN);
    }
}
