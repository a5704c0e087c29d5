//! What must not compile: each file in `refused/` with the compiler's words beside it, which name the rule
//! that the file's own name begins with.

use std::fs;
use std::path::Path;

#[test]
fn what_breaks_a_rule_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/refused/*.rs");
}

#[test]
fn the_error_names_the_rule() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let mut rules = Vec::new();
    for entry in fs::read_dir(&folder).expect("the folder is there") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("named in UTF-8").to_owned();
        let rule = name.split('_').next().unwrap_or_default().to_uppercase();
        if !rule.starts_with('R') || path.extension().is_none_or(|e| e != "stderr") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable");
        let named = text.contains(&format!("interface rule {rule} ("));
        let by_trait = text.contains(&format!("`RULE_{rule}_"));
        assert!(named || by_trait, "{name} does not name {rule}");
        rules.push(rule);
    }
    for rule in ["R1", "R2", "R3", "R4", "R5", "R6", "R7"] {
        assert!(rules.iter().any(|r| r == rule), "nothing breaks {rule}");
    }
}

#[test]
fn every_broken_line_is_pointed_at() {
    // Each method and field of these breaks the rule, and each is to be named.
    let counts = [
        ("r1_results", 4),
        ("r3_private_memory", 21),
        ("r4_receivers", 5),
        ("r5_plain_methods", 10),
    ];
    for (name, lines) in counts {
        let path = format!("{}/tests/refused/{name}.stderr", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).expect("readable");
        let rule = name.split('_').next().unwrap_or_default().to_uppercase();
        let found = text.matches(&format!("interface rule {rule} (")).count();
        assert!(found >= lines, "{name}: {found} of {lines}");
    }
}
