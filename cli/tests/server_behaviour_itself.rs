//! SERVER-BEHAVIOUR.md and the suite that reads it say the same: no row without a test, no test
//! without a row, and no row left out.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;

use testkit::behaviour;

/// The rows that have a test: `row_29a_...` is row 29a, `row_07_...` row 7.
fn tested() -> BTreeSet<String> {
    let sources = [
        include_str!("server_behaviour_status.rs"),
        include_str!("server_behaviour_reply.rs"),
        include_str!("server_behaviour_errors.rs"),
        include_str!("server_behaviour_options.rs"),
        include_str!("../../nbd-client/tests/server_behaviour_data.rs"),
    ];
    let lines = sources.iter().flat_map(|source| source.lines());
    let names = lines.filter_map(|line| line.strip_prefix("fn row_"));
    names.map(|name| name.split('_').next().unwrap().trim_start_matches('0').to_owned()).collect()
}

#[test]
fn every_row_has_a_test_of_its_name_and_every_test_a_row() {
    let rows: BTreeSet<String> = behaviour::rows().into_keys().collect();
    assert_eq!(tested(), rows);
}

#[test]
fn no_row_of_the_original_list_is_left_out() {
    let number = |row: &String| row.trim_end_matches(['a', 'b']).parse::<u32>().unwrap();
    let numbers: BTreeSet<u32> = behaviour::rows().keys().map(number).collect();
    assert!(numbers.into_iter().eq(1..=89));
}

/// Strict is stricter: what it accepts, lenient accepts as well.
#[test]
fn strict_never_takes_what_lenient_refuses() {
    for (row, (lenient, strict)) in behaviour::rows() {
        assert!(lenient.passes() || !strict.passes(), "row {row}");
    }
}
