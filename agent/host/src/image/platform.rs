//! Which image of an index fits this machine.

use evenkeel_schema::Platform;

use super::ImageError;
use super::manifest::Descriptor;

/// Gives the platform of this machine, in the words of image indexes (those of Go).
pub fn machine() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    };
    let variant = match architecture {
        "arm" => Some(arm_variant(&rustix::system::uname().machine().to_string_lossy())),
        "arm64" => Some("v8"),
        _ => None,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
}

fn arm_variant(machine: &str) -> &'static str {
    if machine.starts_with("armv5") {
        "v5"
    } else if machine.starts_with("armv6") {
        "v6"
    } else {
        "v7"
    }
}

/// Gives the variants that run where `wanted` does, best first. `None` stands for an entry that states no variant.
fn acceptable_variants(wanted: &Platform) -> Vec<Option<&str>> {
    match (wanted.architecture.as_str(), wanted.variant.as_deref()) {
        // A processor runs what was built for older ones of its line.
        ("arm", Some("v8")) => vec![Some("v8"), Some("v7"), Some("v6"), Some("v5"), None],
        ("arm", Some("v7") | None) => vec![Some("v7"), Some("v6"), Some("v5"), None],
        ("arm", Some("v6")) => vec![Some("v6"), Some("v5"), None],
        ("arm64", None | Some("v8")) => vec![Some("v8"), None],
        ("amd64", None | Some("v1")) => vec![None, Some("v1")],
        ("amd64", Some("v2")) => vec![Some("v2"), None, Some("v1")],
        ("amd64", Some("v3")) => vec![Some("v3"), Some("v2"), None, Some("v1")],
        ("amd64", Some("v4")) => vec![Some("v4"), Some("v3"), Some("v2"), None, Some("v1")],
        (_, None) => vec![None],
        (_, Some(variant)) => vec![Some(variant), None],
    }
}

/// Tells how well a platform fits, lower being better; `None` where it does not.
fn fit(wanted: &Platform, found: &Platform) -> Option<usize> {
    if (&wanted.os, &wanted.architecture) != (&found.os, &found.architecture) {
        return None;
    }
    acceptable_variants(wanted).iter().position(|variant| *variant == found.variant.as_deref())
}

/// Tells whether an image for one platform is what was asked for.
pub fn fits(wanted: &Platform, found: &Platform) -> bool {
    fit(wanted, found).is_some()
}

/// Chooses the entry of an index that fits best. `source` names the index in errors.
pub fn choose<'a>(entries: &'a [Descriptor], wanted: &Platform, source: &str) -> Result<&'a Descriptor, ImageError> {
    let images: Vec<&Descriptor> = entries.iter().filter(|entry| is_image(entry)).collect();
    // An index of one entry that states no platform leaves nothing to choose.
    if let [only] = images.as_slice()
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let fit_of = |entry: &Descriptor| fit(wanted, &entry.platform.clone()?.into());
    images
        .iter()
        .filter_map(|entry| Some((fit_of(entry)?, *entry)))
        .min_by_key(|(fit, _)| *fit)
        .map(|(_, e)| e)
        .ok_or_else(|| {
            let platforms = images.iter().filter_map(|entry| Some(Platform::from(entry.platform.clone()?).to_string()));
            let found: Vec<String> = platforms.collect();
            let found = if found.is_empty() { "none that states its platform".to_owned() } else { found.join(", ") };
            ImageError::NoPlatform { source_name: source.to_owned(), wanted: wanted.clone(), found }
        })
}

/// Tells an image from what builders attach to one (attestations are listed for the platform `unknown/unknown`).
pub fn is_image(entry: &Descriptor) -> bool {
    let attached = entry.annotations.contains_key("vnd.docker.reference.type");
    !attached && entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}
