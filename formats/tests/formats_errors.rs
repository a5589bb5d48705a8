//! Bad input to every reader: a typed error that names the fault and its place. Read as the user
//! sees it.

use std::error::Error;
use std::io;

use nbd_extents::StreamError;
use nbd_extents::stream::ExtentStream;
use nbd_extents_formats::{
    Fault, Format, LineColumn, ListReadError, ListWriteError, ReadOptions, WriteOptions, actions, kubevirt,
};

const SIZE: u64 = 1 << 20;

fn read(format: Format, text: &str, size: Option<u64>) -> Result<(), ListReadError> {
    format.read(text.as_bytes(), ReadOptions { size, ..ReadOptions::default() }).for_each(|_| {})
}

fn fault(read: Result<(), ListReadError>) -> Fault {
    match read {
        Err(ListReadError::List { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// The error that reading a text as a format ends with, without the name of the format.
#[track_caller]
fn error(format: Format, text: &str) -> String {
    // an extent list is not read without a size
    let size = (format == Format::Extentlist).then_some(SIZE);
    let error = read(format, text, size).unwrap_err();
    assert!(error.source().is_none(), "the cause is printed, and so it is no source");
    error.to_string().strip_prefix(&format!("{format}, ")).unwrap().to_owned()
}

#[track_caller]
fn case(format: Format, text: &str, expected: &str) {
    assert_eq!(error(format, text), expected, "{text}");
}

#[test]
fn lists_that_are_not_whole() {
    let row = r#"{"start": 0, "length": 512, "dirty": true, "zero": true}"#;
    case(
        Format::ImageioDirty,
        "[",
        "line 1, column 2: the input ends where ',' or the end of the list or object should be: is it whole?",
    );
    let cut = format!("[{row}");
    case(
        Format::ImageioDirty,
        &cut,
        "line 1, column 58: the input ends where ',' or the end of the list or object should be: \
            is it whole?",
    );
    for end in 2..cut.len() {
        let error = error(Format::ImageioDirty, &cut[..end]);
        assert_eq!(
            error, "line 1, column 2: the input ends where the rest of a value should be: is it whole?",
            "{end}"
        );
    }
    let twice = format!("[{row}]\n[{row}]");
    case(Format::ImageioDirty, &twice, "line 2, column 1: '[' where nothing should be");
    case(Format::ImageioDirty, row, "line 1, column 1: '{' where a list in brackets should be");
    case(Format::ImageioDirty, "[[]]", "line 1, column 2: '[' where an object should be");
    case(Format::ImageioDirty, "[1]", "line 1, column 2: '1' where an object should be");
    case(Format::Qcow2reader, "[", "line 1, column 1: '[' where an object should be");
    case(
        Format::Qcow2reader,
        "{",
        "line 1, column 1: the input ends where the rest of a value should be: is it whole?",
    );
    for comma in [format!("[{row},]"), format!("[,{row}]"), format!("[{row} {row}]"), format!("[{row}:")] {
        assert!(read(Format::ImageioDirty, &comma, None).is_err(), "{comma}");
    }
}

#[test]
fn text_that_is_not_json() {
    let at = |text: &str| match read(Format::ImageioDirty, text, None) {
        Err(ListReadError::List {
            at: LineColumn { line, column }, fault: Fault::Json { message }, ..
        }) => (line, column, message),
        other => panic!("{other:?}"),
    };
    assert_eq!(at("[\n {\"start\": 00}]"), (2, 13, "invalid number".to_owned()));
    assert_eq!(at("[{\n\"start\": 0,\n }]"), (3, 2, "trailing comma".to_owned()));
    assert_eq!(at("[{\"start\": 0, 'length': 1}]").0, 1);
    assert_eq!(at("[{\"\\ud800\": 1}]").2, "unexpected end of hex escape");
    let deep = format!("[{{\"start\": {}", "[".repeat(1000));
    assert_eq!(at(&deep).2, "recursion limit exceeded");
    let latin = b"[{\"\xe9\": 1}]";
    let read = Format::ImageioDirty.read(&latin[..], ReadOptions::default()).for_each(|_| {});
    assert!(matches!(fault(read), Fault::Json { .. }));
}

#[test]
fn fields() {
    let one = |fields: &str| error(Format::ImageioDirty, &format!("[\n{{{fields}}}]"));
    let missing = |field| format!("line 2, column 1: there is no \"{field}\": is the list of this format?");
    assert_eq!(one(r#""length": 1, "dirty": true"#), missing("start"));
    assert_eq!(one(r#""start": 0, "length": 1"#), missing("dirty"));
    assert_eq!(
        one(r#""start": 0, "length": 1, "dirty": 1"#),
        "line 2, column 1: \"dirty\" is not true or false"
    );
    assert_eq!(
        one(r#""start": 0, "length": 1, "dirty": null"#),
        "line 2, column 1: \"dirty\" is not true or false"
    );
    for number in ["-1", "1.0", "1e3", "\"1\"", "18446744073709551616", "null", "[1]", "-0"] {
        let text = format!(r#""start": {number}, "length": 1, "dirty": true"#);
        assert_eq!(
            one(&text),
            "line 2, column 1: \"start\" is not a whole number from 0 to 2^64 - 1",
            "{number}"
        );
    }
    assert_eq!(one(r#""start": 0, "start": 0"#), "line 2, column 1: \"start\" is there twice");
    assert_eq!(one(r#""start": 0, "st\u0061rt": 0"#), "line 2, column 1: \"start\" is there twice");
    assert_eq!(
        one(r#""start": 0, "length": 0, "dirty": true"#),
        "line 2, column 1: an extent at byte 0 has length 0"
    );
    let large = r#""start": 9223372036854775807, "length": 1, "dirty": true"#;
    assert!(one(large).ends_with("ends above 9223372036854775807"));
}

#[test]
fn order() {
    let two = |second| {
        format!(
            "[{{\"start\": 0, \"length\": 512, \"zero\": true}}, \
             {{\"start\": {second}, \"length\": 512, \"zero\": true}}]"
        )
    };
    case(Format::ImageioZero, &two(1024), "line 1, column 45: bytes 512..1024 have no status");
    case(
        Format::ImageioZero,
        &two(511),
        "line 1, column 45: an extent at byte 511 starts before byte 512, where the one ahead of it ends",
    );
    case(
        Format::NbdinfoDirty,
        "0 512 0 clean\n1024 1 0 clean\n",
        "line 2, column 1: bytes 512..1024 have no status",
    );
    assert!(
        error(Format::Extentlist, "512 512\n0 512\n")
            .starts_with("line 2, column 1: an extent at byte 0 starts before")
    );
}

#[test]
fn an_empty_input_is_an_error_in_every_format() {
    for &format in Format::ALL {
        for text in ["", "\n", " \n\t "] {
            for size in [None, Some(512)] {
                if format == Format::Extentlist && size.is_none() {
                    continue; // which is refused before it is read
                }
                assert_eq!(fault(read(format, text, size)), Fault::EmptyInput, "{format}");
            }
        }
    }
    let json = |size| {
        let options = ReadOptions { size, ..ReadOptions::default() };
        fault(actions::read(&b""[..], options).for_each(|_| {}))
    };
    assert_eq!((json(None), json(Some(0))), (Fault::EmptyInput, Fault::EmptyInput), "JSON has brackets");
}

#[test]
fn a_list_without_rows_is_right_only_of_size_0() {
    let record = r#"[{"block_metadata_type":1,"volume_capacity_bytes":0}]"#;
    for (format, text) in [
        (Format::ImageioDirty, "[]"),
        (Format::NbdinfoDepthJson, "[\n\n]\n"),
        (Format::KubevirtFull, r#"{"extents":null,"next_offset":null}"#),
        (Format::CsiAllocated, record),
    ] {
        assert_eq!(read(format, text, Some(0)), Ok(()), "{format}");
        assert!(read(format, text, Some(512)).is_err(), "{format}");
        assert_eq!(read(format, text, None).is_ok(), format == Format::CsiAllocated, "{format}");
    }
    assert_eq!(fault(read(Format::ImageioDirty, "[]", None)), Fault::EmptyList);
    let qemu = r#"[{ "start": 0, "length": 0, "depth": 0, "present": false, "zero": false, "data": false}]"#;
    assert_eq!(read(Format::QemuImg, qemu, Some(0)), Ok(()));
    assert_eq!(fault(read(Format::QemuImg, qemu, None)), Fault::EmptyList);
    case(Format::QemuImg, &format!("{qemu} 1"), "line 1, column 90: '1' where nothing should be");
}

#[test]
fn a_size_demands_coverage_of_every_format() {
    let row = |start: &str, rest: &str| format!(r#"{{"{start}": 0, "length": 512, {rest}}}"#);
    let nbdinfo = |description: &str| {
        (format!("0 512 0 {description}\n"), format!("[{}]", row("offset", "\"type\": 0")))
    };
    let entry = format!("[{}]", row("start", r#""depth": 0, "zero": false, "data": true"#));
    let page = |word: &str| {
        let row = row("offset", &format!("\"type\": 0, \"description\": \"{word}\""));
        format!("{{\"extents\": [{row}], \"next_offset\": null}}")
    };
    let record =
        r#"[{"block_metadata_type":2,"volume_capacity_bytes":512,"block_metadata":[{"size_bytes":512}]}]"#;
    for &format in Format::ALL {
        let text = match format {
            Format::ImageioZero => format!("[{}]", row("start", "\"zero\": true")),
            Format::ImageioDirty => format!("[{}]", row("start", "\"dirty\": true")),
            Format::Combined => format!("[{}]", row("start", r#""dirty": true, "zero": true, "hole": true"#)),
            Format::NbdinfoAllocation => nbdinfo("data").0,
            Format::NbdinfoDirty => nbdinfo("clean").0,
            Format::NbdinfoDepth => nbdinfo("absent").0,
            Format::NbdinfoAllocationJson | Format::NbdinfoDirtyJson | Format::NbdinfoDepthJson => {
                nbdinfo("").1
            }
            Format::QemuImg | Format::QemuImgDirty | Format::QemuImgDepth => entry.clone(),
            Format::KubevirtFull => page("data"),
            Format::KubevirtIncremental => page("clean"),
            Format::CsiDelta | Format::CsiAllocated => record.to_owned(),
            Format::Extentlist => "0 512\n".to_owned(),
            Format::Qcow2reader => row("start", r#""allocated": true, "zero": true, "compressed": false"#),
            other => panic!("no row for {other}"),
        };
        assert_eq!(read(format, &text, Some(512)), Ok(()), "{format}");
        // an extent list may leave out ranges, and its rows beyond the disk are cut off
        if format != Format::Extentlist {
            let short = fault(read(format, &text, Some(1024)));
            let gap = matches!(&short, Fault::Extents(StreamError::Gap { range }) if *range == (512..1024));
            assert!(gap || short == Fault::Size { listed: 512, given: 1024 }, "{format}: {short}");
            let long = fault(read(format, &text, Some(511)));
            let out = matches!(long, Fault::Extents(StreamError::OutOfRange { .. }));
            assert!(out || long == Fault::Size { listed: 512, given: 511 }, "{format}: {long}");
        }
    }
}

#[test]
fn one_format_is_not_taken_for_another() {
    let differ = " do not go together in this format: is the list of another one?";
    let dirty = "[{\"start\": 0, \"length\": 512, \"dirty\": true, \"zero\": true}]";
    case(Format::ImageioZero, dirty, &format!("line 1, column 2: \"dirty\" and \"hole\"{differ}"));
    let descriptions = format!("\"type\" and \"description\"{differ}");
    for (format, text) in [
        (Format::NbdinfoDirty, "0 512 1 hole\n"),
        (Format::NbdinfoAllocation, "0 512 1 dirty\n"),
        (Format::NbdinfoDepth, "0 512 0 clean\n"),
        (Format::NbdinfoDepth, "0 512 2 backing depth 3\n"),
        (Format::NbdinfoAllocation, "0 512 4 data\n"),
        (Format::NbdinfoDirtyJson, r#"[{"offset": 0, "length": 1, "type": 0, "description": "data"}]"#),
    ] {
        assert!(error(format, text).ends_with(&descriptions), "{text}");
    }
    let page = |kind: &str| {
        format!(
            r#"{{"extents":[{{"offset":0,"length":1,"type":1,"description":"{kind}"}}],"next_offset":null}}"#
        )
    };
    let kind = "\"description\" is not one of the descriptions of this kind of backup";
    assert!(error(Format::KubevirtFull, &page("dirty")).ends_with(kind));
    assert!(error(Format::KubevirtIncremental, &page("hole")).ends_with(kind));
    assert!(error(Format::KubevirtIncremental, &page("zero")).ends_with(&descriptions));
    // a plain map has zeroes, which the map of a bitmap never has
    let plain = r#"[{ "start": 0, "length": 1, "depth": 0, "present": true, "zero": true, "data": false}]"#;
    case(Format::QemuImgDirty, plain, &format!("line 1, column 2: \"zero\" and \"x-dirty-bitmap\"{differ}"));
    let odd = r#"[{ "start": 0, "length": 1, "depth": 0, "present": true, "zero": false, "data": false}]"#;
    case(Format::QemuImgDirty, odd, &format!("line 1, column 2: \"present\" and \"data\"{differ}"));
    case(Format::QemuImgDepth, odd, &format!("line 1, column 2: \"present\" and \"data\"{differ}"));
    let hole = r#"[{ "start": 0, "length": 1, "depth": 0, "present": false, "zero": true, "data": false}]"#;
    case(Format::QemuImgDepth, hole, &format!("line 1, column 2: \"zero\" and \"data\"{differ}"));
}

#[test]
fn json_and_text_are_told_apart() {
    let (table, json) = ("         0       65536    1  dirty\n", "\n[ {}");
    for &format in Format::ALL {
        let lines = matches!(
            format,
            Format::NbdinfoAllocation | Format::NbdinfoDirty | Format::NbdinfoDepth | Format::Extentlist
        );
        if lines {
            assert_eq!(fault(read(format, json, Some(SIZE))), Fault::NotText, "{format}");
        } else {
            assert_eq!(fault(read(format, table, Some(SIZE))), Fault::NotJson, "{format}");
        }
    }
    case(
        Format::NbdinfoDirty,
        "[{}]",
        "line 1, column 1: the input is JSON and the format is text: name the JSON format \
            (nbdinfo's end in -json)",
    );
    assert!(error(Format::NbdinfoDirtyJson, table).starts_with("line 1, column 10: the input is not JSON"));
    assert!(error(Format::Qcow2reader, "1").starts_with("line 1, column 1: the input is not JSON"));
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let error = "nbdinfo".parse::<Format>().unwrap_err().to_string();
    assert!(error.starts_with("no format is called \"nbdinfo\"; the formats are imageio-zero, "), "{error}");
    assert!(Format::ALL.iter().all(|format| error.contains(format.name())), "{error}");
}

#[test]
fn lines() {
    let number = "is not a number of bytes, with or without a unit";
    case(
        Format::NbdinfoDirty,
        "0 512 1 dirty",
        "line 1, column 1: the input ends where the end of the line should be: is it whole?",
    );
    let missing = |field| format!("there is no \"{field}\": is the list of this format?");
    case(Format::NbdinfoDirty, "0 512 0\n\n", &format!("line 2, column 1: {}", missing("offset")));
    case(Format::NbdinfoDirty, "0 512\n", &format!("line 1, column 1: {}", missing("type")));
    case(
        Format::NbdinfoDirty,
        "0 +512 0\n",
        "line 1, column 1: \"length\" is not a whole number from 0 to 2^64 - 1",
    );
    case(Format::Extentlist, "0 1X\n", &format!("line 1, column 1: \"length\" {number}"));
    case(Format::Extentlist, "0 99999999E\n", &format!("line 1, column 1: \"length\" {number}"));
    case(Format::Extentlist, "-1 1\n", &format!("line 1, column 1: \"offset\" {number}"));
    case(
        Format::Extentlist,
        "0 512\n512 512 full\n",
        "line 2, column 1: \"type\" is not a number, or \"hole\" and \"zero\" with a comma",
    );
    case(Format::Extentlist, "0 512 3 3\n", "line 1, column 1: \"type\" is not the last word of the line");
    let long = "0".repeat(3 << 20);
    case(Format::NbdinfoDirty, &long, "line 1, column 1: a row is longer than 1048576 bytes");
    let long = format!("[{{\"x\": \"{long}\"}}]");
    case(Format::ImageioDirty, &long, "line 1, column 2: a row is longer than 1048576 bytes");
}

#[test]
fn pages() {
    let extent = r#"{"offset":0,"length":512,"type":0,"description":"clean"}"#;
    let page = |extents: &str, next: &str| format!("{{\"extents\":{extents},\"next_offset\":{next}}}\n");
    let list = format!("[{extent}]");
    let kubevirt = |text: &str| error(Format::KubevirtIncremental, text);
    assert!(kubevirt(&page(&list, "512")).starts_with("line 2"), "the last page has not come");
    assert!(kubevirt(&page(&list, "512")).contains("the input ends where the next page should be"));
    assert!(kubevirt(&page(&list, "1024")).contains("\"next_offset\" and \"extents\" do not go together"));
    assert!(kubevirt(&page(&list, "-1")).ends_with("\"next_offset\" is not a whole number or null"));
    assert!(kubevirt(&(page(&list, "null") + &page("[]", "null"))).contains("the page that follows"));
    assert!(kubevirt("{\"extents\":[]}").contains("there is no \"next_offset\""));
    assert!(kubevirt("{\"next_offset\":null}").contains("there is no \"extents\""));
    assert!(kubevirt("{\"extents\":[],\"extents\":[]}").ends_with("\"extents\" is there twice"));
    assert!(kubevirt("{\"extents\":{}}").ends_with("'{' where a list of extents should be"));
    assert!(kubevirt("{\"extents\":[1]}").ends_with("where an object should be"));
    assert!(kubevirt("[]").ends_with("'[' where a page in braces should be"));
    let next = |text: &str| kubevirt::next_offset(text.as_bytes()).map_err(|error| error.to_string());
    assert_eq!(next(&page(&list, "512")), Ok(Some(512)));
    assert_eq!(next(&page(&list, "null")), Ok(None));
    assert!(next("{}").unwrap_err().contains("there is no \"next_offset\""));
}

#[test]
fn records() {
    let csi = |text: &str| error(Format::CsiDelta, text);
    let record = |kind: &str, blocks: &str| {
        format!(
            "[{{\"block_metadata_type\":{kind},\"volume_capacity_bytes\":1000,\
             \"block_metadata\":[{blocks}]}}]"
        )
    };
    assert_eq!(
        csi("[]"),
        "line 1, column 3: the list does not name the size of the disk: give it",
        "how much has not changed?"
    );
    assert!(csi(&record("0", "")).ends_with("is not FIXED_LENGTH (1) or VARIABLE_LENGTH (2)"));
    assert!(csi(&record("\"UNKNOWN\"", "")).ends_with("is not FIXED_LENGTH (1) or VARIABLE_LENGTH (2)"));
    assert!(
        csi("[{\"block_metadata\":[]}]").contains("there is no \"block_metadata_type\""),
        "it must come first"
    );
    assert!(csi(&record("2", "{\"byte_offset\":5}")).ends_with("an extent at byte 5 has length 0"));
    assert!(
        csi(&record("2", "{\"byte_offset\":1000,\"size_bytes\":1}")).ends_with("leaves the range 0..1000")
    );
    assert!(
        csi(&record("1", "{\"byte_offset\":1000,\"size_bytes\":1}")).ends_with("leaves the range 0..1000")
    );
    let two = "{\"size_bytes\":8},{\"byte_offset\":8,\"size_bytes\":9}";
    assert!(csi(&record("1", two)).contains("\"size_bytes\" and \"block_metadata_type\" do not go together"));
    let back = "{\"byte_offset\":8,\"size_bytes\":8},{\"byte_offset\":8,\"size_bytes\":8}";
    assert!(csi(&record("1", back)).contains("starts before byte 16"));
    let other =
        record("2", "").replace("]}]", "]},{\"block_metadata_type\":2,\"volume_capacity_bytes\":999}]");
    assert!(csi(&other).contains("of the record before"));
    assert!(csi("{} []").contains("there is no \"block_metadata_type\""));
    assert!(csi("[] {}").ends_with("'{' where nothing should be"));
    assert!(csi(&record("2", "").replace("]}]", "],\"blockMetadata\":[]}]")).ends_with("is there twice"));
    let twice = "[{\"block_metadata_type\":2,\"blockMetadataType\":2}]";
    assert!(csi(twice).ends_with("\"block_metadata_type\" is there twice"));

    // the first block may start before the offset that was asked for, but not end there
    let options = ReadOptions { starting_offset: 100, ..ReadOptions::default() };
    let text = record("2", "{\"size_bytes\":100}");
    let read = Format::CsiDelta.read(text.as_bytes(), options).for_each(|_| {});
    assert!(matches!(fault(read), Fault::Extents(_)));
}

#[test]
fn options_that_a_format_needs() {
    assert_eq!(fault(read(Format::Extentlist, "0 512\n", None)), Fault::SizeNeeded);
    let written = Format::CsiDelta.writer(Vec::new(), WriteOptions::default()).finish();
    assert!(matches!(written, Err(ListWriteError::SizeNeeded { format: "csi-delta" })));
}

#[test]
fn an_input_or_output_that_fails_says_why() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, "the peer has gone"))
        }
    }
    impl io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::StorageFull, "no room"))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = Format::ImageioDirty.read(Broken, ReadOptions::default()).for_each(|_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        "imageio-dirty, line 1, column 1: the input cannot be read: the peer has gone"
    );
    let error = Format::ImageioDirty.writer(Broken, WriteOptions::default()).finish().unwrap_err();
    assert_eq!(error.to_string(), "the list cannot be written: no room");
    assert!(error.source().is_none(), "the cause is printed, and so it is no source");
}
