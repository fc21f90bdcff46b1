use std::collections::BTreeMap;

use super::required::REQUIRED;

#[test]
fn the_table_of_required_fields_is_that_of_the_schemas() {
    let schemas = evenkeel_schema::json_schemas();
    let definitions = schemas["evenkeel.v1.json"]["definitions"].as_object().unwrap().clone();
    let fields = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|field| field.as_str().unwrap().to_owned()).collect()
    };
    let mut expected: BTreeMap<String, Vec<String>> = definitions
        .iter()
        .filter(|(name, definition)| definition.get("required").is_some() && !is_document(name))
        .map(|(name, definition)| (name.replace("Mount", "RawMount"), fields(&definition["required"])))
        .collect();
    // The envelope without what chose the type.
    let envelope = fields(&definitions["Container"]["required"]);
    let of_object = envelope.into_iter().filter(|field| !matches!(field.as_str(), "apiVersion" | "kind"));
    expected.insert("Object".to_owned(), of_object.collect());
    let table: BTreeMap<String, Vec<String>> = REQUIRED
        .iter()
        .map(|(name, fields)| ((*name).to_owned(), fields.iter().map(|field| (*field).to_owned()).collect()))
        .collect();
    assert_eq!(table, expected);
}

fn is_document(name: &str) -> bool {
    ["Image", "Volume", "Network", "Container"].contains(&name)
}
