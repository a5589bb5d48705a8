//! The serialized forms are stable: each is written out here in its permanent form, and invalid
//! values are rejected.

use core::fmt::Debug;

use nbd_extents::chain::{ChainLayer, Checksum, ParentLayer};
use nbd_extents::map::ExtentMap;
use nbd_extents::plan::PlanPosition;
use nbd_extents::stream::from_iter;
use nbd_extents::{Action, Allocation, BitmapIndex, Bitmaps, Depth, Dirtiness, Extent, ResumePoint, Status};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

#[track_caller]
fn form<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), json);
    assert_eq!(serde_json::from_str::<T>(json).unwrap(), *value);
    binary(value);
}

/// A format that does not describe itself has no names, and needs each length beforehand.
#[track_caller]
fn binary<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let bytes = postcard::to_allocvec(value).unwrap();
    assert_eq!(postcard::from_bytes::<T>(&bytes).unwrap(), *value);
}

#[track_caller]
fn refused<T: DeserializeOwned + Debug>(json: &str, why: &str) {
    let error = serde_json::from_str::<T>(json).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn what_one_context_says_is_its_number() {
    form(&Allocation::from_flags(3), "3");
    form(&Dirtiness::DIRTY, "1");
    form(&Depth::from_flags(1 << 40), "1099511627776");
    form(&Bitmaps::FIRST.with(BitmapIndex::of::<31>()), "2147483649");
}

#[test]
fn a_status_says_null_where_it_does_not_know() {
    form(&Status::UNKNOWN, r#"{"zero":null,"hole":null,"asked":0,"dirty":0,"depth":null}"#);
    let all = Status::UNKNOWN
        .with_allocation(Allocation::from_flags(2))
        .with_bitmap(BitmapIndex::FIRST, Dirtiness::from_flags(0))
        .with_bitmap(BitmapIndex::of::<2>(), Dirtiness::DIRTY)
        .with_depth(Depth::from_flags(1));
    form(&all, r#"{"zero":true,"hole":false,"asked":5,"dirty":4,"depth":1}"#);
    let doubt = Status::UNKNOWN.with_depth(Depth::from_flags(u64::MAX));
    form(&doubt, r#"{"zero":null,"hole":null,"asked":0,"dirty":0,"depth":4294967296}"#);
}

#[test]
fn a_status_that_cannot_be_is_refused() {
    let half = r#"{"zero":true,"hole":null,"asked":0,"dirty":0,"depth":null}"#;
    refused::<Status>(half, "only one of zero and hole");
    let unasked = r#"{"zero":null,"hole":null,"asked":1,"dirty":3,"depth":null}"#;
    refused::<Status>(unasked, "dirty bitmaps (0x3) that were not asked (0x1)");
    let from_the_future = r#"{"zero":null,"hole":null,"asked":0,"dirty":0,"depth":null,"encrypted":true}"#;
    refused::<Status>(from_the_future, "unknown field");
}

#[test]
fn actions() {
    form(&Action::Copy, r#""copy""#);
    form(&Action::Zero { may_unmap: true }, r#"{"zero":{"may_unmap":true}}"#);
    form(&Action::Skip, r#""skip""#);
    form(&Action::Absent, r#""absent""#);
}

#[test]
fn extents_and_maps() {
    let extent = |start, length, action| Extent::new(start, length, action).unwrap();
    form(&extent(512, 1024, Action::Skip), r#"{"start":512,"length":1024,"status":"skip"}"#);
    refused::<Extent<Action>>(r#"{"start":512,"length":0,"status":"skip"}"#, "length 0");

    let map = ExtentMap::within(from_iter([extent(512, 1024, Action::Copy)]), 0..4096).unwrap();
    form(&map, r#"{"start":0,"end":4096,"extents":[{"start":512,"length":1024,"status":"copy"}]}"#);
    let empty = ExtentMap::<Action>::within(from_iter([]), 512..512).unwrap();
    form(&empty, r#"{"start":512,"end":512,"extents":[]}"#);

    let overlap = concat!(
        r#"{"start":0,"end":9,"extents":[{"start":0,"length":5,"status":1},"#,
        r#"{"start":4,"length":5,"status":2}]}"#
    );
    refused::<ExtentMap<u8>>(overlap, "4");
    refused::<ExtentMap<u8>>(r#"{"start":0,"end":3,"extents":[{"start":0,"length":5,"status":1}]}"#, "0..5");
    refused::<ExtentMap<u8>>(r#"{"start":9,"end":3,"extents":[]}"#, "ends before it starts");
    refused::<ExtentMap<u8>>(r#"{"start":0,"end":18446744073709551615,"extents":[]}"#, "ends above");
}

#[test]
fn what_a_program_keeps_between_two_runs() {
    form(&PlanPosition { offset: 1, size: 2 }, r#"{"offset":1,"size":2}"#);
    form(&ResumePoint { offset: 1, end: 2, export_size: 3 }, r#"{"offset":1,"end":2,"export_size":3}"#);
    let full = ChainLayer::full("vda".to_owned(), "sunday".to_owned(), 4096);
    form(&full, r#"{"disk":"vda","id":"sunday","size":4096,"checksum":null,"parent":null}"#);
    form(
        &ChainLayer::incremental(1, 3, 2, 4096),
        r#"{"disk":1,"id":3,"size":4096,"checksum":null,"parent":{"id":2,"size":null,"checksum":null}}"#,
    );
    let checksum = Some(Checksum::new(10));
    form(
        &ParentLayer::<u8> { id: None, size: Some(7), checksum },
        r#"{"id":null,"size":7,"checksum":"0000000000000000000000000000000a"}"#,
    );
    refused::<Checksum>(r#""0a""#, "32 hexadecimal digits");
}

fn status() -> impl Strategy<Value = Status> {
    let allocation = proptest::option::of(0..4_u64);
    let bitmaps = any::<(u32, u32)>();
    let depth = proptest::option::of(prop_oneof![0..3_u64, Just(u64::MAX)]);
    (allocation, bitmaps, depth).prop_map(|(allocation, (asked, dirty), depth)| {
        let mut status = Status::UNKNOWN;
        if let Some(flags) = allocation {
            status = status.with_allocation(Allocation::from_flags(flags));
        }
        for index in Bitmaps::ALL.indices().filter(|&index| asked >> usize::from(index) & 1 == 1) {
            let flags = u64::from(dirty >> usize::from(index) & 1);
            status = status.with_bitmap(index, Dirtiness::from_flags(flags));
        }
        depth.map_or(status, |depth| status.with_depth(Depth::from_flags(depth)))
    })
}

proptest! {
    #[test]
    fn every_map_comes_back(
        runs in proptest::collection::vec((0..5_u64, 1..9_u64, status()), 0..20),
    ) {
        let mut position = 0;
        let extents: Vec<_> = runs
            .into_iter()
            .map(|(gap, length, status)| {
                let extent = Extent::new(position + gap, length, status).unwrap();
                position = extent.end();
                extent
            })
            .collect();
        let map = ExtentMap::within(from_iter(extents), 0..position).unwrap();
        let json = serde_json::to_string(&map).unwrap();
        prop_assert_eq!(&serde_json::from_str::<ExtentMap<Status>>(&json).unwrap(), &map);
        binary(&map);
    }
}
