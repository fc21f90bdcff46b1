//! The nearest of several words to one that was probably mistyped.

/// Finds the candidate that a person most likely meant, if any is near enough.
///
/// Case, `-` and `_` do not count: `read_only` is `readOnly`. Otherwise one letter in three may be wrong.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bare = bare(word);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&bare, &self::bare(candidate));
    let (distance, candidate) = candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let allowed = (bare.chars().count() / 3).max(1);
    (distance <= allowed && distance < bare.chars().count().max(1)).then_some(candidate)
}

/// Lists words as a person would: `a`, `a or b`, `a, b or c`.
pub(crate) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [front @ .., last] => format!("{} or {last}", front.join(", ")),
    }
}

fn bare(word: &str) -> String {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
