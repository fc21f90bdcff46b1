//! Names as people write them: `container/web`, or `web` where that can be only one object.

use evenkeel_schema::{Key, Kind, Name};

use super::Failure;

/// Reads the name of a container, with or without its kind.
pub fn container(text: &str) -> Result<Name, Failure> {
    if !text.contains('/') {
        return Ok(text.parse()?);
    }
    let key: Key = text.parse()?;
    if key.kind != Kind::Container {
        return Err(Failure::new(format!("{key} is no container"), "this verb is for containers only"));
    }
    Ok(key.name)
}

/// Finds the one object of `known` that a text means.
pub fn object(text: &str, known: &[Key]) -> Result<Key, Failure> {
    if text.contains('/') {
        let key: Key = text.parse()?;
        return if known.contains(&key) { Ok(key) } else { Err(unknown(text, known)) };
    }
    let named: Vec<&Key> = known.iter().filter(|key| key.name.as_str() == text).collect();
    match named.as_slice() {
        [] => Err(unknown(text, known)),
        [one] => Ok((*one).clone()),
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::new(format!("`{text}` means several objects"), format!("write {}", several.join(" or "))))
        }
    }
}

/// Says that there is no such object, with the nearest name.
pub fn unknown(text: &str, known: &[Key]) -> Failure {
    let bare = text.rsplit('/').next().unwrap_or(text);
    let distance = |key: &&Key| strsim::damerau_levenshtein(bare, key.name.as_str());
    let nearest = known.iter().min_by_key(distance).filter(|key| distance(key) <= bare.len().max(3) / 2);
    let hint = match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "`evenkeel status` lists all objects".to_owned(),
    };
    Failure::new(format!("there is no object `{text}`"), hint)
}
