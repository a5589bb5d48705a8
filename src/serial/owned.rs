//! The forms of the values that a survey or a chain stores between two runs of a program.

use alloc::string::{String, ToString as _};
use core::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::through;
use crate::chain::{ChainLayer, Checksum, ChecksumError, ParentLayer};
use crate::survey::ResumePoint;

through! {
    ResumeForm => ResumePoint;
    LayerForm<I> => ChainLayer<I>, I;
    ParentForm<I> => ParentLayer<I>, I;
    ChecksumForm => Checksum;
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "ResumePoint", deny_unknown_fields)]
struct ResumeForm {
    offset: u64,
    end: u64,
    export_size: u64,
}

impl From<&ResumePoint> for ResumeForm {
    fn from(point: &ResumePoint) -> Self {
        Self { offset: point.offset, end: point.end, export_size: point.export_size }
    }
}

impl TryFrom<ResumeForm> for ResumePoint {
    type Error = Infallible;

    fn try_from(form: ResumeForm) -> Result<Self, Infallible> {
        Ok(Self { offset: form.offset, end: form.end, export_size: form.export_size })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "ChainLayer", deny_unknown_fields)]
struct LayerForm<I> {
    disk: Option<I>,
    id: Option<I>,
    size: u64,
    checksum: Option<Checksum>,
    parent: Option<ParentForm<I>>,
}

impl<I: Clone> From<&ChainLayer<I>> for LayerForm<I> {
    fn from(layer: &ChainLayer<I>) -> Self {
        let ChainLayer { disk, id, size, checksum, parent } = layer.clone();
        Self { disk, id, size, checksum, parent: parent.as_ref().map(ParentForm::from) }
    }
}

impl<I> TryFrom<LayerForm<I>> for ChainLayer<I> {
    type Error = Infallible;

    fn try_from(form: LayerForm<I>) -> Result<Self, Infallible> {
        let LayerForm { disk, id, size, checksum, parent } = form;
        Ok(Self { disk, id, size, checksum, parent: parent.map(ParentLayer::try_from).transpose()? })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "ParentLayer", deny_unknown_fields)]
struct ParentForm<I> {
    id: Option<I>,
    size: Option<u64>,
    checksum: Option<Checksum>,
}

impl<I: Clone> From<&ParentLayer<I>> for ParentForm<I> {
    fn from(parent: &ParentLayer<I>) -> Self {
        let ParentLayer { id, size, checksum } = parent.clone();
        Self { id, size, checksum }
    }
}

impl<I> TryFrom<ParentForm<I>> for ParentLayer<I> {
    type Error = Infallible;

    fn try_from(form: ParentForm<I>) -> Result<Self, Infallible> {
        let ParentForm { id, size, checksum } = form;
        Ok(Self { id, size, checksum })
    }
}

/// 32 hexadecimal digits: few formats have numbers of 128 bits.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct ChecksumForm(String);

impl From<&Checksum> for ChecksumForm {
    fn from(checksum: &Checksum) -> Self {
        Self(checksum.to_string())
    }
}

impl TryFrom<ChecksumForm> for Checksum {
    type Error = ChecksumError;

    fn try_from(form: ChecksumForm) -> Result<Self, ChecksumError> {
        form.0.parse()
    }
}
