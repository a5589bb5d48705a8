//! Bad input to every reader: a typed error that says what is wrong and where. Read as the user sees it.

use nbd_extents::stream::ExtentStream;
use nbd_extents_formats::{self, Fault, Format, InputError, ReadOptions, WriteOptions};

/// The error that reading a text as a format ends with.
#[track_caller]
fn error(format: Format, text: &str) -> String {
    let options = ReadOptions { size: Some(1 << 20), ..ReadOptions::default() };
    match nbd_extents_formats::read(format.decoder(&options).unwrap(), text.as_bytes()).for_each(|_| {}) {
        Err(InputError::Format(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn case(format: Format, text: &str, expected: &str) {
    assert_eq!(error(format, text), expected, "{text}");
}

#[test]
fn lists_that_are_not_whole() {
    let row = r#"{"start": 0, "length": 512, "dirty": true, "zero": true}"#;
    case(Format::ImageioDirty, "", "line 1 (byte 0): the input ends where a value should be");
    case(Format::ImageioDirty, "[", "line 1 (byte 1): the input ends where a value or ']' should be");
    let cut = format!("[{row}");
    case(
        Format::ImageioDirty,
        &cut,
        "line 1 (byte 57): the input ends where ',' or the end of the list or object should be",
    );
    let twice = format!("[{row}]\n[{row}]");
    case(Format::ImageioDirty, &twice, "line 2 (byte 59): '[' where nothing should be");
    case(Format::ImageioDirty, row, "line 1 (byte 0): \"the whole\" is not an array");
    case(Format::ImageioDirty, "[[]]", "line 1 (byte 1): \"a row\" is not an object");
    case(Format::ImageioDirty, "[1]", "line 1 (byte 1): \"a row\" is not an object");
    case(Format::Qcow2reader, "[", "line 1 (byte 0): \"a row\" is not an object");
    case(Format::Qcow2reader, "1", "line 1 (byte 0): \"the whole\" is not a list");
}

#[test]
fn fields() {
    let one = |fields: &str| error(Format::ImageioDirty, &format!("[\n{{{fields}}}]"));
    assert_eq!(one(r#""length": 1, "dirty": true"#), "line 2 (byte 2): there is no \"start\"");
    assert_eq!(one(r#""start": 0, "length": 1"#), "line 2 (byte 2): there is no \"dirty\"");
    assert_eq!(
        one(r#""start": 0, "length": 1, "dirty": 1"#),
        "line 2 (byte 2): \"dirty\" is not true or false"
    );
    assert_eq!(
        one(r#""start": 0, "length": 1, "dirty": null"#),
        "line 2 (byte 2): \"dirty\" is not true or false"
    );
    for number in ["-1", "1.0", "1e3", "\"1\"", "18446744073709551616", "null", "[1]"] {
        let text = format!(r#""start": {number}, "length": 1, "dirty": true"#);
        assert_eq!(
            one(&text),
            "line 2 (byte 2): \"start\" is not a whole number from 0 to 2^64 - 1",
            "{number}"
        );
    }
    assert_eq!(one(r#""start": 0, "start": 0"#), "line 2 (byte 15): \"start\" is there twice");
    assert_eq!(
        one(r#""start": 0, "length": 0, "dirty": true"#),
        "line 2 (byte 2): an extent at byte 0 has length 0"
    );
    let large = r#""start": 9223372036854775807, "length": 1, "dirty": true"#;
    assert!(one(large).ends_with("ends above 9223372036854775807"));
}

#[test]
fn order() {
    let two = |second| {
        format!(
            r#"[{{"start": 0, "length": 512, "zero": true}}, {{"start": {second}, "length": 512, "zero": true}}]"#
        )
    };
    case(Format::ImageioZero, &two(1024), "line 1 (byte 44): bytes 512..1024 have no status");
    case(
        Format::ImageioZero,
        &two(511),
        "line 1 (byte 44): an extent at byte 511 starts before byte 512, where the one ahead of it ends",
    );
    case(
        Format::NbdinfoDirty,
        "0 512 0 clean\n1024 1 0 clean\n",
        "line 2 (byte 14): bytes 512..1024 have no status",
    );
    assert!(
        error(Format::Extentlist, "512 512\n0 512\n")
            .starts_with("line 2 (byte 8): an extent at byte 0 starts before")
    );
    assert!(error(Format::Extentlist, "0 2M\n").ends_with("leaves the range 0..1048576"));
}

#[test]
fn one_format_is_not_taken_for_another() {
    let dirty = "[{\"start\": 0, \"length\": 512, \"dirty\": true, \"zero\": true}]";
    case(
        Format::ImageioZero,
        dirty,
        "line 1 (byte 1): \"dirty\" and \"hole\" do not go together in this format",
    );
    let differ = "\"type\" and \"description\" do not go together in this format";
    for (format, text) in [
        (Format::NbdinfoDirty, "0 512 1 hole\n"),
        (Format::NbdinfoAllocation, "0 512 1 dirty\n"),
        (Format::NbdinfoDepth, "0 512 0 clean\n"),
        (Format::NbdinfoDepth, "0 512 2 backing depth 3\n"),
        (Format::NbdinfoAllocation, "0 512 4 data\n"),
        (Format::NbdinfoDirtyJson, r#"[{"offset": 0, "length": 1, "type": 0, "description": "data"}]"#),
    ] {
        assert!(error(format, text).ends_with(differ), "{text}");
    }
    let page = |kind: &str| {
        format!(
            r#"{{"extents":[{{"offset":0,"length":1,"type":1,"description":"{kind}"}}],"next_offset":null}}"#
        )
    };
    let kind = "\"description\" is not one of the descriptions of this kind of backup";
    assert!(error(Format::KubevirtFull, &page("dirty")).ends_with(kind));
    assert!(error(Format::KubevirtIncremental, &page("hole")).ends_with(kind));
    assert!(error(Format::KubevirtIncremental, &page("zero")).ends_with(differ));
    // a plain map has zeroes, which the map of a bitmap never has
    let plain = r#"[{ "start": 0, "length": 1, "depth": 0, "present": true, "zero": true, "data": false}]"#;
    case(
        Format::QemuImgDirty,
        plain,
        "line 1 (byte 1): \"zero\" and \"x-dirty-bitmap\" do not go together in this format",
    );
    let odd = r#"[{ "start": 0, "length": 1, "depth": 0, "present": true, "zero": false, "data": false}]"#;
    case(
        Format::QemuImgDirty,
        odd,
        "line 1 (byte 1): \"present\" and \"data\" do not go together in this format",
    );
}

#[test]
fn lines() {
    case(
        Format::NbdinfoDirty,
        "0 512 1 dirty",
        "line 1 (byte 0): the input ends where the end of the line should be",
    );
    case(Format::NbdinfoDirty, "0 512 0\n\n", "line 2 (byte 8): there is no \"offset\"");
    case(Format::NbdinfoDirty, "0 512\n", "line 1 (byte 0): there is no \"type\"");
    case(
        Format::NbdinfoDirty,
        "0 +512 0\n",
        "line 1 (byte 0): \"length\" is not a whole number from 0 to 2^64 - 1",
    );
    case(
        Format::Extentlist,
        "0 1X\n",
        "line 1 (byte 0): \"length\" is not a number of bytes, with or without a unit",
    );
    case(
        Format::Extentlist,
        "0 99999999E\n",
        "line 1 (byte 0): \"length\" is not a number of bytes, with or without a unit",
    );
    case(
        Format::Extentlist,
        "0 512\n512 512 full\n",
        "line 2 (byte 6): \"type\" is not a number, or \"hole\" and \"zero\" with a comma",
    );
    case(Format::Extentlist, "0 512 3 3\n", "line 1 (byte 0): \"type\" is not the last word of the line");
    let long = "0".repeat(1000);
    case(
        Format::NbdinfoDirty,
        &long,
        "line 1 (byte 0): the input ends where the end of a line, which is too long, should be",
    );
}

#[test]
fn pages() {
    let extent = r#"{"offset":0,"length":512,"type":0,"description":"clean"}"#;
    let page = |extents: &str, next: &str| format!("{{\"extents\":{extents},\"next_offset\":{next}}}\n");
    let list = format!("[{extent}]");
    let kubevirt = |text: &str| error(Format::KubevirtIncremental, text);
    assert_eq!(kubevirt(""), "line 1 (byte 0): the input ends where the next page should be");
    assert!(kubevirt(&page(&list, "512")).starts_with("line 2"), "the last page has not come");
    assert!(
        kubevirt(&page(&list, "1024"))
            .ends_with("\"next_offset\" and \"extents\" do not go together in this format")
    );
    assert!(kubevirt(&page(&list, "-1")).ends_with("\"next_offset\" is not a whole number or null"));
    assert!(kubevirt(&(page(&list, "null") + &page("[]", "null"))).contains("the page that follows"));
    assert!(kubevirt("{\"extents\":[]}").ends_with("there is no \"next_offset\""));
    assert!(kubevirt("{\"next_offset\":null}").ends_with("there is no \"extents\""));
    assert!(kubevirt("{\"extents\":[],\"extents\":[]}").ends_with("\"extents\" is there twice"));
    assert!(kubevirt("{\"extents\":{}}").ends_with("\"extents\" is not a list of objects"));
    assert!(kubevirt("{\"extents\":[1]}").ends_with("\"extents\" is not a list of objects"));
    assert!(kubevirt("[]").ends_with("\"a page\" is not an object"));
}

#[test]
fn records() {
    let csi = |text: &str| error(Format::CsiDelta, text);
    let record = |kind: &str, blocks: &str| {
        format!(
            "[{{\"block_metadata_type\":{kind},\"volume_capacity_bytes\":1000,\"block_metadata\":[{blocks}]}}]"
        )
    };
    assert_eq!(
        csi("[]"),
        "line 1 (byte 2): there is no \"volume_capacity_bytes\"",
        "how much has not changed?"
    );
    assert!(csi(&record("0", "")).ends_with("is not FIXED_LENGTH (1) or VARIABLE_LENGTH (2)"));
    assert!(csi(&record("\"UNKNOWN\"", "")).ends_with("is not FIXED_LENGTH (1) or VARIABLE_LENGTH (2)"));
    assert!(
        csi("[{\"block_metadata\":[]}]").ends_with("there is no \"block_metadata_type\""),
        "it must come first"
    );
    assert!(csi(&record("2", "{\"byte_offset\":5}")).ends_with("an extent at byte 5 has length 0"));
    assert!(csi(&record("2", "{\"size_bytes\":1001}")).ends_with("leaves the range 0..1000"));
    assert!(
        csi(&record("1", "{\"byte_offset\":1000,\"size_bytes\":1}")).ends_with("leaves the range 0..1000")
    );
    let two = "{\"size_bytes\":8},{\"byte_offset\":8,\"size_bytes\":9}";
    assert!(
        csi(&record("1", two))
            .ends_with("\"size_bytes\" and \"block_metadata_type\" do not go together in this format")
    );
    let back = "{\"byte_offset\":8,\"size_bytes\":8},{\"byte_offset\":8,\"size_bytes\":8}";
    assert!(csi(&record("1", back)).contains("starts before byte 16"));
    let other =
        record("2", "").replace("]}]", "]},{\"block_metadata_type\":2,\"volume_capacity_bytes\":999}]");
    assert!(csi(&other).contains("of the record before"));
    assert!(csi("{} []").ends_with("there is no \"block_metadata_type\""));
    assert!(csi("[] {}").ends_with("\"the whole\" is not a list of records"));

    // the first block may start before the offset that was asked, but not end there
    let options = ReadOptions { starting_offset: 100, ..ReadOptions::default() };
    let text = record("2", "{\"size_bytes\":100}");
    let read = nbd_extents_formats::read(Format::CsiDelta.decoder(&options).unwrap(), text.as_bytes())
        .for_each(|_| {});
    assert!(matches!(read, Err(InputError::Format(error)) if matches!(error.fault, Fault::Extents(_))));
}

#[test]
fn options_that_a_format_needs() {
    assert!(Format::Extentlist.decoder(&ReadOptions::default()).is_err());
    assert!(Format::CsiDelta.encoder(&WriteOptions::default()).is_err());
}
