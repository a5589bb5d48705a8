//! Runs a body over its committed corpus, and over inputs made from it: the repeatable part of
//! fuzzing, for `cargo test`.

use std::path::PathBuf;

/// The number of inputs made from each file, and from nothing.
const MUTATIONS: usize = 40;
const INVENTED: usize = 1000;
const LONGEST: usize = 1200;

/// Runs `body` over all of `fuzz/corpus/NAME`, in the order of the names, and over some thousands
/// of inputs made from them.
pub fn replay(name: &str, body: fn(&[u8])) {
    let corpus = read(name);
    assert!(!corpus.is_empty(), "no corpus for {name}");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (file, data) in &corpus {
        run(&format!("{name}/{file}"), body, data);
        for nth in 0..MUTATIONS {
            let (_, other) = &corpus[random.below(corpus.len())];
            run(&format!("{name}/{file}, mutation {nth}"), body, &mutate(&mut random, data, other));
        }
    }
    for nth in 0..INVENTED {
        let length = random.below(120);
        let data: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        run(&format!("{name}, invented {nth}"), body, &data);
    }
}

fn read(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let file = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    let mut corpus: Vec<(String, Vec<u8>)> = files.map(file).collect();
    corpus.sort();
    corpus
}

/// Names the input when the body panics.
fn run(what: &str, body: fn(&[u8]), data: &[u8]) {
    struct Name<'a>(&'a str, &'a [u8]);
    impl Drop for Name<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the input is {} ({:02x?})", self.0, self.1);
            }
        }
    }
    let _name = Name(what, data);
    body(data);
}

/// A few small changes.
fn mutate(random: &mut Random, data: &[u8], other: &[u8]) -> Vec<u8> {
    const TELLING: [u8; 8] = [0, 1, 2, 3, 0x7f, 0x80, 0xfe, 0xff];
    let mut data = data.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(data.len() + 1);
        match random.below(6) {
            0 => data.truncate(at),
            1 => data.insert(at, random.byte()),
            2 => data.extend_from_slice(&other[random.below(other.len() + 1)..]),
            3 if at < data.len() => data[at] ^= 1 << random.below(8),
            4 if at < data.len() => data[at] = TELLING[random.below(TELLING.len())],
            5 if at < data.len() => drop(data.remove(at)),
            _ => {}
        }
    }
    data.truncate(LONGEST);
    data
}

/// xorshift: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % end as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}
