//! The forms of what a survey or a chain keeps between two runs of a program.

use core::convert::Infallible;

use serde::{Deserialize, Serialize};

use super::through;
use crate::chain::Layer;
use crate::survey::ResumePoint;

through! {
    ResumeForm => ResumePoint;
    LayerForm<I> => Layer<I>, I;
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
#[serde(rename = "Layer", deny_unknown_fields)]
struct LayerForm<I> {
    disk: I,
    id: I,
    parent: Option<I>,
    size: u64,
}

impl<I: Clone> From<&Layer<I>> for LayerForm<I> {
    fn from(layer: &Layer<I>) -> Self {
        let Layer { disk, id, parent, size } = layer.clone();
        Self { disk, id, parent, size }
    }
}

impl<I> TryFrom<LayerForm<I>> for Layer<I> {
    type Error = Infallible;

    fn try_from(form: LayerForm<I>) -> Result<Self, Infallible> {
        let LayerForm { disk, id, parent, size } = form;
        Ok(Self { disk, id, parent, size })
    }
}
