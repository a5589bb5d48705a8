//! The model of the live tests, checked by hand: a wrong yardstick would make every live test
//! wrong.

use serde_json::json;
use testkit::model::{Model, ModelBlock, ModelStatus, SurveyOrder};

/// Blocks of 512 bytes: whether each is zero, at what depth, and what two bitmaps say of it.
fn model(blocks: &[(bool, u32, [bool; 2])]) -> Model {
    let blocks = (0_u64..).zip(blocks).map(|(index, (zero, depth, dirty))| ModelBlock {
        range: index * 512..(index + 1) * 512,
        status: ModelStatus { zero: Some(*zero), depth: Some(*depth), dirty: dirty.to_vec() },
    });
    Model { blocks: blocks.collect() }
}

fn disk() -> Model {
    model(&[
        (false, 1, [false, false]),
        (false, 2, [false, false]),
        (true, 1, [false, false]),
        (true, 0, [true, false]),
        (true, 0, [false, true]),
        (false, 1, [true, true]),
    ])
}

#[test]
fn without_bitmaps_depth_counts_as_hole_or_not() {
    let expected = [
        json!({"start": 0, "length": 1024, "zero": false, "hole": false}),
        json!({"start": 1024, "length": 512, "zero": true, "hole": false}),
        json!({"start": 1536, "length": 1024, "zero": true, "hole": true}),
        json!({"start": 2560, "length": 512, "zero": false, "hole": false}),
    ];
    assert_eq!(disk().zero_list(&(0..3072)), expected);
}

#[test]
fn dirty_is_the_union_of_the_bitmaps_named() {
    let expected = [
        json!({"start": 0, "length": 1024, "dirty": false, "zero": false}),
        json!({"start": 1024, "length": 512, "dirty": false, "zero": true}),
        json!({"start": 1536, "length": 1024, "dirty": true, "zero": true}),
        json!({"start": 2560, "length": 512, "dirty": true, "zero": false}),
    ];
    assert_eq!(disk().dirty_list(&(0..3072), &[0, 1], SurveyOrder::Together), expected);
}

#[test]
fn bitmap_first_knows_nothing_of_zeroes_in_clean_ranges() {
    let expected = [
        json!({"start": 0, "length": 1536, "dirty": false, "zero": false}),
        json!({"start": 1536, "length": 512, "dirty": true, "zero": true}),
        json!({"start": 2048, "length": 512, "dirty": false, "zero": false}),
        json!({"start": 2560, "length": 512, "dirty": true, "zero": false}),
    ];
    assert_eq!(disk().dirty_list(&(0..3072), &[0], SurveyOrder::BitmapFirst), expected);
}

#[test]
fn parts_are_cut_to_the_byte() {
    let expected = [
        json!({"start": 1023, "length": 1, "zero": false, "hole": false}),
        json!({"start": 1024, "length": 512, "zero": true, "hole": false}),
        json!({"start": 1536, "length": 1, "zero": true, "hole": true}),
    ];
    assert_eq!(disk().zero_list(&(1023..1537)), expected);
}
