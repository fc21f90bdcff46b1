//! The checked-in JSON Schemas are those that the types give, and every field has a line in the reference.

use std::collections::BTreeMap;
use std::path::Path;

use evenkeel_schema::json_schemas;
use serde_json::Value;

#[test]
fn the_checked_in_schemas_are_current() {
    for (name, schema) in json_schemas() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            checked_in == format!("{schema:#}\n"),
            "schema/{name} is not what the types say: cargo run -p evenkeel-schema --example generate"
        );
    }
}

#[test]
fn every_document_names_its_version_and_kind() {
    let schemas = json_schemas();
    assert_eq!(schemas.len(), 5);
    let container = &schemas["container.v1.json"];
    assert_eq!(container["properties"]["kind"]["const"], "Container");
    assert_eq!(container["properties"]["apiVersion"]["const"], "evenkeel/v1");
    assert_eq!(container["additionalProperties"], false);
    let kinds: Vec<&Value> = schemas["evenkeel.v1.json"]["oneOf"].as_array().unwrap().iter().collect();
    assert_eq!(kinds.len(), 4);
    for (name, schema) in &schemas {
        let text = schema.to_string();
        assert!(!text.contains("\"null\""), "{name} lets a field be null, which the loader refuses");
    }
}

/// Finds the rows of each section's tables: heading → first cells.
fn documented(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut heading = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            heading = title.trim_start_matches('#').trim().to_owned();
        } else if let Some(cell) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            sections.entry(heading.clone()).or_default().push(cell.to_owned());
        }
    }
    sections
}

#[test]
fn every_field_has_a_row_in_the_reference_and_every_row_a_field() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manifests.md");
    let sections = documented(&std::fs::read_to_string(path).unwrap());
    let schema = &json_schemas()["evenkeel.v1.json"];
    let mut missing = Vec::new();
    let mut seen = BTreeMap::new();
    for (name, definition) in schema["definitions"].as_object().unwrap() {
        let Some(properties) = definition["properties"].as_object() else { continue };
        // The envelope is the same for every kind.
        let heading =
            if ["Image", "Volume", "Network", "Container"].contains(&name.as_str()) { "Document" } else { name };
        let rows = sections.get(heading).cloned().unwrap_or_default();
        missing
            .extend(properties.keys().filter(|field| !rows.contains(field)).map(|field| format!("{heading}.{field}")));
        let extra = rows.iter().filter(|row| !properties.contains_key(*row));
        missing.extend(extra.map(|row| format!("{heading}.{row} (not in the schema)")));
        seen.insert(heading.to_owned(), ());
    }
    assert!(missing.is_empty(), "docs/manifests.md: {missing:?}");
    let extra: Vec<_> = sections.keys().filter(|heading| !seen.contains_key(*heading)).collect();
    assert!(extra.is_empty(), "docs/manifests.md describes what the schema does not have: {extra:?}");
}
