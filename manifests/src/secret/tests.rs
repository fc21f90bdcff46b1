use std::path::PathBuf;

use super::*;

/// Gives a line with its hidden parts starred out.
fn shown(text: &str, index: usize) -> String {
    let file = SourceFile::new(String::new(), PathBuf::new(), PathBuf::new(), text.to_owned());
    let hidden = values(&file, index);
    file.line(index)
        .unwrap()
        .char_indices()
        .map(|(at, letter)| match hidden.iter().any(|range| range.contains(&at)) {
            true if !letter.is_whitespace() => '*',
            _ => letter,
        })
        .collect()
}

#[test]
fn passwords_in_addresses_are_hidden() {
    let line = "image: \"alice:open-sesame@registry.example:5000/x:1\"";
    assert_eq!(shown(line, 0), "image: \"alice:***********@registry.example:5000/x:1\"");
    // A space of more than one byte before it.
    assert_eq!(shown("\u{3000}a:b@c", 0), "\u{3000}a:*@c");
    let line = "image: registry.example:5000/x:1@sha256:00";
    assert_eq!(shown(line, 0), line);
}

#[test]
fn values_of_an_environment_are_hidden_however_they_are_written() {
    assert_eq!(shown("spec:\n  env:\n    A: b c\n  image: x", 2), "    A: * *");
    assert_eq!(shown("spec:\n  env:\n    A: b c\n  image: x", 3), "  image: x");
    assert_eq!(shown("  env: {A: b, PIN: 12}", 0), "  env: {A: *, PIN: **}");
    assert_eq!(shown("spec: {image: x, env: {A: b}}", 0), "spec: {image: x, env: {A: *}}");
    assert_eq!(shown("  env:\n    A: |\n      one: two\n      three", 3), "      *****");
    assert_eq!(shown("spec: {image: x, env: {\n    A: b,\n    C: d}}", 2), "    C: ***");
    assert_eq!(shown("spec:\r  env:\r    A: b\r  image: x", 2), "    A: *");
    assert_eq!(shown("spec:\r  env:\r    A: b\r  image: x", 3), "  image: x");
    // Meant so, if not written so; and one that is not meant so.
    assert_eq!(shown("  environment: {A: b}", 0), "  environment: {A: *}");
    assert_eq!(shown("  evn:\n    A: b", 1), "    A: *");
    assert_eq!(shown("  \"enw\": {A: b}", 0), "  \"enw\": {A: *}");
    assert_eq!(shown("  labels: {A: b}", 0), "  labels: {A: b}");
}
