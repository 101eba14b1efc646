//! All settings: the rows of the files of this folder, joined into one table.
//!
//! Owns: [`SETTINGS`], and their order: that of `--help`, of the document, and in which values are set.

use super::table::{ROWS, Setting};
use super::{doors, limits, logs, who};

const FILES: [&[Setting]; 5] = [ROWS, logs::ROWS, doors::ROWS, who::ROWS, limits::ROWS];

/// Every setting there is.
pub const SETTINGS: &[Setting] =
    &joined::<{ FILES[0].len() + FILES[1].len() + FILES[2].len() + FILES[3].len() + FILES[4].len() }>(FILES);

const fn joined<const COUNT: usize>(files: [&[Setting]; 5]) -> [Setting; COUNT] {
    let mut all = [files[0][0]; COUNT];
    let (mut at, mut file) = (0, 0);
    while file < files.len() {
        let mut row = 0;
        while row < files[file].len() {
            all[at] = files[file][row];
            (at, row) = (at + 1, row + 1);
        }
        file += 1;
    }
    all
}
