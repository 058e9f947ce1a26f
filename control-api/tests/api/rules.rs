//! RULES.md against the code: every rule and every error code has a test that is there, and every test of a rule is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use control_api::error::Code;
use control_api::router;

/// A table of RULES.md: what its rows are about, and the cells beside it.
type Table = BTreeMap<String, Vec<String>>;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows below a heading of RULES.md.
fn table(heading: &str) -> Table {
    let text = read(&top().join("control-api/RULES.md"));
    let (_, text) = text.split_once(heading).unwrap_or_else(|| panic!("no {heading}"));
    let text = text.split("\n## ").next().unwrap();
    let mut table = Table::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("|---"))
        .skip(1)
    {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        let first = cells.next().unwrap();
        assert!(
            table.insert(first.clone(), cells.collect()).is_none(),
            "{first} is there twice"
        );
    }
    table
}

/// The tests that a cell names: file and function.
fn named(cell: &str) -> Vec<(PathBuf, String)> {
    let mut tests = Vec::new();
    for name in cell.split('`').skip(1).step_by(2) {
        let (file, function) = name
            .rsplit_once("::")
            .unwrap_or_else(|| panic!("`{name}` names no test"));
        let path = match file.split_once('/') {
            Some(("api", area)) => top().join(format!("control-api/tests/api/{area}.rs")),
            Some(("src" | "license", _)) if file.starts_with("src/") => top().join(format!("control-api/{file}.rs")),
            Some(("license", area)) => top().join(format!("control-api/tests/license/{area}.rs")),
            _ => top().join(file),
        };
        tests.push((path, function.to_owned()));
    }
    tests
}

/// The text of a test. It must be one.
fn body(path: &Path, function: &str) -> String {
    let text = read(path);
    let at = text
        .find(&format!("fn {function}("))
        .unwrap_or_else(|| panic!("{}: no {function}", path.display()));
    let before = text[..at].lines().rev().take(6).collect::<String>();
    assert!(before.contains("test]"), "{function} is no test");
    // The end of a function is a brace as far in as its beginning.
    let column = at - text[..at].rfind('\n').map_or(0, |end| end + 1);
    let indent: String = text[at - column..].chars().take_while(|one| *one == ' ').collect();
    let end = text[at..]
        .find(&format!("\n{indent}}}\n"))
        .map_or(text.len(), |end| at + end);
    text[at..end].to_owned()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, into),
            false if path.extension().is_some_and(|end| end == "rs") => into.push(path),
            false => {}
        }
    }
}

/// `AU-1, AU-2` of `au_1_and_2_something`, `PL-2, PL-3, PL-4` of `pl_2_to_4_something`.
fn rules_of(function: &str) -> Vec<String> {
    let parts: Vec<&str> = function.split('_').collect();
    let number = |at: usize| parts.get(at).and_then(|part| part.parse::<u32>().ok());
    let (mut rules, mut family, mut last, mut ranges) = (Vec::new(), None, 0, false);
    for (at, part) in parts.iter().enumerate() {
        match (number(at), family.is_some()) {
            (Some(end), true) => {
                let first = if ranges { last + 1 } else { end };
                let name = family.clone().unwrap_or_default();
                rules.extend((first..=end).map(|number| format!("{name}-{number}")));
                (last, ranges) = (end, false);
            }
            (None, true) if *part == "and" => {}
            (None, true) if *part == "to" && number(at + 1).is_some() => ranges = true,
            (None, _) if part.len() == 2 && number(at + 1).is_some() => family = Some(part.to_uppercase()),
            _ => break,
        }
    }
    rules
}

#[test]
fn every_rule_has_its_tests() {
    for (rule, cells) in table("## Rules") {
        let cell = &cells[0];
        let later = ["second wave", "third wave"].iter().any(|wave| cell.contains(wave));
        let tests = named(cell);
        assert!(
            later || !tests.is_empty(),
            "{rule} is of the first wave and has no test"
        );
        for (path, function) in tests {
            body(&path, &function);
        }
    }
}

#[test]
fn every_test_of_a_rule_is_listed() {
    let rules = table("## Rules");
    let mut files = Vec::new();
    sources(&top().join("control-api/tests/api"), &mut files);
    sources(&top().join("control-api/src"), &mut files);
    for path in files {
        for line in read(&path).lines() {
            let Some((_, rest)) = line
                .split_once("fn ")
                .filter(|(before, _)| ["", "async "].contains(&before.trim_start()))
            else {
                continue;
            };
            let function = rest.split('(').next().unwrap();
            for rule in rules_of(function) {
                let listed = rules
                    .get(&rule)
                    .is_some_and(|cells| cells[0].contains(&format!("::{function}`")));
                assert!(
                    listed,
                    "{}: {rule} of RULES.md does not name {function}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn every_code_is_produced_by_a_test() {
    let codes = table("## Codes");
    let mut documented: BTreeSet<Code> = Code::STANDARD.iter().copied().collect();
    for endpoint in router::endpoints() {
        documented.extend(&endpoint.operation.errors);
    }
    for code in Code::ALL {
        let name = code.name();
        let cells = codes.get(name).unwrap_or_else(|| panic!("{name} is not in RULES.md"));
        assert_eq!(cells[0], code.status().to_string(), "{name}");
        let tests = named(&cells[1]);
        let later = ["second wave", "third wave"].iter().any(|wave| cells[1].contains(wave));
        assert!(
            later || !tests.is_empty(),
            "{name} is of the first wave and no test produces it"
        );
        assert!(
            !later || !documented.contains(code),
            "{name} is documented and said to be of a later wave"
        );
        for (path, function) in tests {
            let text = body(&path, &function);
            assert!(
                text.contains(&format!("\"{name}\"")),
                "{function} does not produce {name}"
            );
        }
    }
    assert_eq!(codes.len(), Code::ALL.len(), "RULES.md has codes that the API has not");
}

#[test]
fn names_of_tests_say_their_rules() {
    assert_eq!(rules_of("au_1_protected"), ["AU-1"]);
    assert_eq!(rules_of("ak_2_and_3_keys"), ["AK-2", "AK-3"]);
    assert_eq!(rules_of("dv_1_3_and_5_devices"), ["DV-1", "DV-3", "DV-5"]);
    assert!(rules_of("errors_are_told_one_way").is_empty());
    assert_eq!(rules_of("pl_2_to_4_refusals"), ["PL-2", "PL-3", "PL-4"]);
    assert_eq!(rules_of("dv_4_and_au_7_removal"), ["DV-4", "AU-7"]);
    assert!(rules_of("bl_and_tn_1_money").is_empty());
}
