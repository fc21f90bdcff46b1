//! What a person is never shown: the values of environments, of containers and of images.

use serde_json::Value;

/// What stands in a value's place.
const NOT_SHOWN: &str = "(not shown)";

/// Takes the values of every `env` out of an object's manifest, or of what was observed of it.
pub fn without_secrets(mut value: Value) -> Value {
    conceal(&mut value);
    value
}

fn conceal(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::Object(variables) if name == "env" => {
                        variables.values_mut().for_each(|variable| *variable = NOT_SHOWN.into());
                    }
                    other => conceal(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(conceal),
        _ => {}
    }
}
