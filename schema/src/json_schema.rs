//! JSON Schemas of the manifest language, for editors and for checks in a pipeline.
//!
//! They say what one document may look like. What needs more than one field or object (an ipRange outside its subnet, a
//! reference to nothing) only `evenkeel validate` knows. Draft 7, since that is what editors read.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::{API_VERSION, ContainerSpec, ImageSpec, Kind, NetworkSpec, Object, VolumeSpec};

/// Generates every schema by the name of its file: one per kind, and `evenkeel.v1.json` for a document of any kind.
pub fn json_schemas() -> BTreeMap<String, Value> {
    let mut schemas: BTreeMap<String, Value> =
        Kind::ALL.map(|kind| (format!("{}.v1.json", kind.key_prefix()), kind_schema(kind))).into();
    schemas.insert("evenkeel.v1.json".to_owned(), combined_schema());
    // Whether serde_json keeps the order of insertion depends on who else is built with it.
    schemas.values_mut().for_each(Value::sort_all_objects);
    schemas
}

fn kind_schema(kind: Kind) -> Value {
    let mut generator = generator();
    let mut schema = document(kind, &mut generator);
    let definitions = definitions(&mut generator);
    head(&mut schema, &format!("evenkeel {kind}"));
    schema.insert("definitions".to_owned(), definitions);
    Value::Object(schema)
}

fn combined_schema() -> Value {
    let mut generator = generator();
    let documents = Kind::ALL.map(|kind| (kind.to_string(), document(kind, &mut generator)));
    let Value::Object(mut all) = definitions(&mut generator) else { return Value::Null };
    let references = Kind::ALL.map(|kind| json!({ "$ref": format!("#/definitions/{kind}") }));
    all.extend(documents.map(|(kind, schema)| (kind, Value::Object(schema))));
    let mut schema = Map::new();
    head(&mut schema, "evenkeel manifest");
    schema.insert("oneOf".to_owned(), json!(references));
    schema.insert("definitions".to_owned(), Value::Object(all));
    Value::Object(schema)
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().for_deserialize().into_generator()
}

fn head(schema: &mut Map<String, Value>, title: &str) {
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!(title));
}

/// Describes a whole document of a kind: the envelope with `apiVersion` and `kind`.
fn document(kind: Kind, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let object = match kind {
        Kind::Image => Object::<ImageSpec>::json_schema(generator),
        Kind::Volume => Object::<VolumeSpec>::json_schema(generator),
        Kind::Network => Object::<NetworkSpec>::json_schema(generator),
        Kind::Container => Object::<ContainerSpec>::json_schema(generator),
    };
    let Value::Object(mut schema) = without_null(object.to_value()) else { return Map::new() };
    schema.insert("description".to_owned(), json!(format!("A manifest of kind {kind}.")));
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("apiVersion".to_owned(), json!({ "const": API_VERSION }));
        properties.insert("kind".to_owned(), json!({ "const": kind.as_str() }));
    }
    // Every field of a volume has a default, so that the loader asks for none.
    let required = match kind {
        Kind::Volume => json!(["apiVersion", "kind", "metadata"]),
        _ => json!(["apiVersion", "kind", "metadata", "spec"]),
    };
    schema.insert("required".to_owned(), required);
    schema
}

fn definitions(generator: &mut SchemaGenerator) -> Value {
    without_null(Value::Object(generator.take_definitions(true).into_iter().collect()))
}

/// Takes `null` out of a schema: a field is left out or has a value, and the loader refuses `field:` with nothing.
fn without_null(value: Value) -> Value {
    let is_null = |value: &Value| *value == json!({ "type": "null" });
    match value {
        Value::Array(items) => items.into_iter().map(without_null).collect(),
        Value::Object(fields) => {
            let mut kept = Map::new();
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("default", Value::Null) => {}
                    ("type", Value::Array(mut types)) => {
                        types.retain(|name| name != "null");
                        let only = if types.len() == 1 { types.pop() } else { None };
                        kept.insert(key, only.unwrap_or(Value::Array(types)));
                    }
                    ("anyOf", Value::Array(mut choices)) if choices.iter().any(is_null) => {
                        choices.retain(|choice| !is_null(choice));
                        let key = if choices.len() == 1 { "allOf".to_owned() } else { key };
                        kept.insert(key, without_null(Value::Array(choices)));
                    }
                    (_, value) => drop(kept.insert(key, without_null(value))),
                }
            }
            Value::Object(kept)
        }
        other => other,
    }
}
