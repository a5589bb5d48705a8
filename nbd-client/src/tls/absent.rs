//! The same names without the feature: there is no session, and so nothing to do.

use super::{Progress, TlsError, TlsInfo, TlsOptions};
use crate::frame::During;

#[derive(Clone, Debug)]
pub(crate) enum RustlsConfig {}

#[derive(Debug)]
pub(crate) enum TlsSetup {}

impl TlsSetup {
    pub(crate) fn new(_wanted: &TlsOptions, _config: Option<&RustlsConfig>) -> Result<Self, TlsError> {
        Err(TlsError::NotBuilt)
    }
}

#[derive(Debug)]
pub(crate) enum TlsSession {}

impl TlsSession {
    pub(crate) fn new(setup: TlsSetup, _unsent: Vec<u8>) -> Result<Self, TlsError> {
        match setup {}
    }

    pub(crate) fn space(&mut self, _: bool) -> &mut [u8] {
        match *self {}
    }

    pub(crate) fn received(&mut self, _count: usize) {
        match *self {}
    }

    pub(crate) fn advance(&mut self, _take: &mut dyn FnMut(&[u8]) -> usize) -> Result<Progress, TlsError> {
        match *self {}
    }

    pub(crate) fn seal<'a>(&mut self, _output: impl Iterator<Item = &'a [u8]>, _is_last: bool) {
        match *self {}
    }

    pub(crate) fn output(&self) -> &[u8] {
        match *self {}
    }

    pub(crate) fn sent(&mut self, _count: usize) -> usize {
        match *self {}
    }

    pub(crate) fn has_output(&self, _plaintext: bool, _is_last: bool) -> bool {
        match *self {}
    }

    pub(crate) fn info(&self) -> TlsInfo {
        match *self {}
    }

    pub(crate) fn failure(&self) -> Option<TlsError> {
        match *self {}
    }

    pub(crate) fn explain(&self, _during: During) -> Option<TlsError> {
        match *self {}
    }
}
