//! Registry references: their full form, and the name of the image that a container states by one.

use crate::Name;

/// Completes a reference as Docker does: `nginx` is `docker.io/library/nginx:latest`.
///
/// The first part is a registry where it holds `.` or `:` or is `localhost`; a reference with neither tag nor digest
/// gets the tag `latest` (distribution spec, "Pulling manifests"; Docker's familiar names).
pub fn full_reference(reference: &str) -> String {
    let is_registry = |part: &str| part.contains('.') || part.contains(':') || part == "localhost";
    let (registry, path) = match reference.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest.to_owned()),
        _ => ("docker.io", reference.to_owned()),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    // Docker Hub keeps its own images below `library`.
    let path = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
    let last = path.rsplit('/').next().unwrap_or(&path);
    let tag = if last.contains(':') || path.contains('@') { "" } else { ":latest" };
    format!("{registry}/{path}{tag}")
}

/// Names the image that a container states by a reference: its last part with its tag, and a hash of its full form.
pub fn implicit_image_name(reference: &str) -> Name {
    let full = full_reference(reference);
    let undigested = full.split('@').next().unwrap_or(&full);
    let last = undigested.rsplit('/').next().unwrap_or(undigested);
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let readable: String = last
        .to_ascii_lowercase()
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(40)
        .collect();
    // Stable across releases, since the store knows the image by this name.
    let hash = fnv1a(full.bytes());
    let name = format!("{readable}{}{:08x}", if readable.is_empty() { "" } else { "-" }, hash as u32);
    // Made of the allowed characters only, and a hash is never too long.
    Name::try_from(name).unwrap_or_else(|_| Name::from_hash(hash))
}

/// Hashes bytes by FNV-1a with 64 bits, which names that outlast a release are derived with.
pub fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let mix = |state: u64, byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, mix)
}

#[cfg(test)]
mod tests;
