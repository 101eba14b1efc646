//! Runs a fuzz body over its hand-made corpus and deterministic mutations of it, on stable. Shared by the tests of the crates
//! whose bodies the targets of this folder name.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Mutations per target: well below a second each.
const MUTATIONS: u32 = 10_000;

/// Xorshift64*: the same mutations on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

/// Bytes that mean something to one of the parsers.
const TELLING: &[u8] =
    b"\0\r\n\t \"%&+,-/:;={}[]\\0179afEeu\x7e\x7f\x80\x81\x82\x88\x89\x8a\xbf\xc2\xe2\xed\xf0\xf4\xfe\xff";

fn mutate(input: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(input.len() + 1);
        match dice.roll(8) {
            0 if at < input.len() => input[at] ^= 1 << dice.roll(8),
            1 if at < input.len() => input[at] = TELLING[dice.roll(TELLING.len())],
            2 => input.insert(at, TELLING[dice.roll(TELLING.len())]),
            3 if at < input.len() => drop(input.remove(at)),
            4 => input.truncate(at),
            5 => {
                let end = at + dice.roll(input.len() - at + 1);
                let run = input[at..end].to_vec();
                input.splice(at..at, run);
            }
            6 => {
                let from = dice.roll(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let end = at + dice.roll(input.len() - at + 1);
                input.drain(at..end);
            }
        }
        input.truncate(2_000);
    }
}

/// Runs the body of a target; `corpus/` is looked for beside the folder of the crate under test.
pub(crate) fn run(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the corpus can be listed").path())
        .collect();
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("the corpus can be read")).collect();
    let nasty =
        paths.iter().filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nasty-")));
    assert!(nasty.count() * 10 >= files.len(), "at least a tenth of the corpus is nasty");
    for (path, file) in paths.iter().zip(&files) {
        try_one(&path.display().to_string(), file, body);
    }
    let mut dice = Dice(0x00c0_ffee_0000_0001 ^ target.len() as u64);
    for round in 0..MUTATIONS {
        let mut input = files[dice.roll(files.len())].clone();
        let other = files[dice.roll(files.len())].clone();
        mutate(&mut input, &other, &mut dice);
        try_one(&format!("mutation {round}"), &input, body);
    }
}

fn try_one(name: &str, input: &[u8], body: fn(&[u8])) {
    if catch_unwind(AssertUnwindSafe(|| body(input))).is_err() {
        panic!("{name}: the body failed for b\"{}\"", input.escape_ascii());
    }
}
