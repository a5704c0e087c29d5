//! `cargo xtask check`: formatting, lints and documentation, each without a single warning.

use std::path::Path;
use std::time::Duration;

use crate::report::{self, Report};
use crate::workspace::cargo;

const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Runs the checks; true if all pass.
pub fn run() -> bool {
    let mut report = Report::new(3);
    report.step("fmt", "the code is formatted", || {
        let mut outcome = report::command(&mut cargo(["fmt", "--all", "--check"]), LIMIT);
        if Path::new("fuzz/Cargo.toml").exists() {
            let mut fuzz = cargo([
                "fmt",
                "--all",
                "--check",
                "--manifest-path",
                "fuzz/Cargo.toml",
            ]);
            outcome = outcome.and(report::command(&mut fuzz, LIMIT));
        }
        outcome
    });
    report.step("clippy", "no lint fires", || {
        let mut clippy = cargo([
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]);
        // The part of a domain that no program of the workspace links.
        let mut image = cargo(["clippy", "--package", "sumac-domain", "--features", "image"]);
        image.args(["--lib", "--", "-D", "warnings"]);
        report::command(&mut clippy, LIMIT).and(report::command(&mut image, LIMIT))
    });
    report.step("doc", "the documentation builds without a warning", || {
        let mut doc = cargo(["doc", "--workspace", "--no-deps"]);
        report::command(doc.env("RUSTDOCFLAGS", "-D warnings"), LIMIT)
    });
    report.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn links_between_files_of_the_documentation_lead_somewhere() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut pages = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
        let docs = fs::read_dir(root.join("docs")).unwrap();
        pages.extend(docs.map(|page| page.unwrap().path()));
        let mut links = 0;
        for page in &pages {
            let text = fs::read_to_string(page).unwrap();
            let targets = text.split("](").skip(1);
            for target in targets.filter_map(|rest| rest.split([')', '#']).next()) {
                if !target.starts_with("http") {
                    let file = page.parent().unwrap().join(target);
                    assert!(file.exists(), "{}: {target}", page.display());
                    links += 1;
                }
            }
        }
        assert!(links > 20, "{links} links were found");
    }
}
