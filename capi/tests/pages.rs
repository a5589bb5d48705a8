//! The code on the pages for readers is the code that the tests run: each block of DROP-IN.md stands, line
//! for line, in one of the test programs.

use std::path::Path;

const PAGE: &str = include_str!("../DROP-IN.md");

/// The lines of each block of code in a language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let after = PAGE.split(fence.as_str()).skip(1);
    after.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_drop_in_pages_show_tested_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    let mut shown = 0;
    for (language, file) in [("go", "go/dropin_test.go"), ("cpp", "tests/c/drop_in_ceph.cpp")] {
        let tested = read(file);
        for block in blocks(language) {
            assert!(tested.contains(&block), "{file} does not have the lines\n{block}");
            shown += 1;
        }
    }
    assert_eq!(shown, 3, "a page for each of the three programs");
}
