//! The table in `kernel.md`, written from the table of checks. A test holds the file to what stands here.

use crate::check::Cure;
use crate::checks::PARTS;

/// The line after which the table begins in `kernel.md`.
pub const BEGIN: &str = "<!-- From here on written by `corecast tune check --document`. -->\n";

/// The line before which it ends.
pub const END: &str = "<!-- To here. -->\n";

/// Returns the table.
#[must_use]
pub fn document() -> String {
    let mut text = String::new();
    for (heading, checks) in PARTS {
        text += &format!("\n### {heading}\n\n| name | wanted | what it costs in memory | changed by | source |\n");
        text += "|---|---|---|---|---|\n";
        for check in checks {
            let by = match check.cure {
                Cure::Limit => "`corecast tune apply`",
                Cure::ByHand(how) => how,
            };
            let (name, rule, cost, source) = (check.name, check.rule, check.cost, check.source);
            text += &format!("| `{name}` | {rule} | {cost} | {by} | {source} |\n");
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kernel.md` has the table that the checks are made from.
    #[test]
    fn the_guide_is_up_to_date() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel.md");
        let text = std::fs::read_to_string(path).unwrap();
        let written = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table);
        let expected = document();
        assert!(
            written == Some(expected.as_str()),
            "tuning/kernel.md differs from the table of checks; between the two comments it has to say:\n{expected}"
        );
    }
}
