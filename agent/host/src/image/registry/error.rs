//! What can go wrong with a registry, named by what was asked of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use evenkeel_schema::Digest;
use oci_spec::distribution::ParseError;
use thiserror::Error;

use super::Credentials;
use super::transport::{Failure, tls_failure};
use crate::image::ImageError;

/// Why a registry did not give what was asked of it.
#[derive(Debug, Error)]
pub enum RegistryError {
    #[error("`{reference}` is not an image reference")]
    Reference { reference: String, source: ParseError },
    #[error("`{reference}` and `digest: {pin}` name two different digests")]
    TwoDigests { reference: String, pin: Digest },
    #[error("{registry} wants a login for {what} (HTTP status 401); {tried}")]
    Unauthorized { registry: String, what: String, tried: String, source: Failure },
    #[error("{registry} has no {what} (HTTP status 404){}", hint(.tried))]
    NotFound { registry: String, what: String, tried: String, source: Failure },
    #[error("{registry} refuses {what} (HTTP status 403); {tried}")]
    Forbidden { registry: String, what: String, tried: String, source: Failure },
    #[error("{registry} limits requests, {what} has to wait{} (HTTP status 429); {tried}", for_how_long(.wait))]
    TooManyRequests { registry: String, what: String, tried: String, wait: Option<Duration>, source: Failure },
    #[error("{registry} cannot give {what} now, and wants to be asked again in {} (HTTP status {status})", seconds(.wait))]
    Busy { registry: String, what: String, status: u16, wait: Duration, source: Failure },
    #[error("{registry} cannot give {what} (HTTP status {status})")]
    Status { registry: String, what: String, status: u16, source: Failure },
    #[error(
        "{registry} shows a certificate that is not trusted, so {what} was not asked for; \
         put its authority into /etc/evenkeel/certs.d/{registry}/ca.crt"
    )]
    Certificate { registry: String, what: String, source: Failure },
    #[error(
        "the host trusts no certificate authority, without which {registry} cannot be asked; install ca-certificates"
    )]
    NoAuthorities { registry: String, source: reqwest::Error },
    #[error("{registry} speaks HTTP, not HTTPS, so {what} was not asked for; `insecure: true` allows it")]
    PlainText { registry: String, what: String, source: Failure },
    #[error("{registry} cannot be reached for {what}")]
    Unreachable { registry: String, what: String, source: Failure },
    #[error("{registry} said nothing for {} while it was asked for {what}", seconds(.silence))]
    Silent { registry: String, what: String, silence: Duration, source: Failure },
    #[error("{registry} redirects from one address to the next for {what}, and never gives it")]
    Redirects { registry: String, what: String, source: Failure },
    #[error("{registry} wants a token for {what}, which cannot be got")]
    NoToken { registry: String, what: String, source: Failure },
    #[error("{registry} broke off while it sent {what}, after {received} of {size} bytes")]
    BrokenOff { registry: String, what: String, received: u64, size: u64, source: Failure },
    #[error("{registry} stopped in the midst of {what}, after {received} of {size} bytes, and said nothing for {}", seconds(.silence))]
    Stalled { registry: String, what: String, received: u64, size: u64, silence: Duration, source: Failure },
    #[error("{registry} sends more than {limit} bytes for {what}: no manifest is as long as that")]
    TooLong { registry: String, what: String, limit: usize },
    #[error("the answer of {registry} for {what} cannot be understood")]
    Answer { registry: String, what: String, source: Failure },
    #[error("{what} has the digest {digest}: only sha256 is supported")]
    Digest { what: String, digest: String },
    #[error("a client for {registry} could not be made")]
    Client { registry: String, source: reqwest::Error },
    #[error("{path} holds a certificate that cannot be read")]
    BadCertificate { path: PathBuf, source: reqwest::Error },
    #[error("EVENKEEL_REGISTRY_SILENCE is `{value}`, which is no length of time: write it as 30s or 2m")]
    Silence { value: String },
    #[error("could not read {path}")]
    File { path: PathBuf, source: io::Error },
    #[error("the credentials in {path} are not valid JSON of that kind")]
    CredentialFile { path: PathBuf, source: serde_json::Error },
    #[error("the entry for {registry} in {path} is not base64 of USER:PASSWORD")]
    CredentialEntry { path: PathBuf, registry: String },
}

impl From<RegistryError> for ImageError {
    fn from(error: RegistryError) -> ImageError {
        ImageError::Registry(Box::new(error))
    }
}

fn hint(tried: &str) -> String {
    // Most registries hide what a login would show.
    if tried.is_empty() { String::new() } else { format!("; {tried}") }
}

fn for_how_long(wait: &Option<Duration>) -> String {
    wait.map_or_else(String::new, |wait| format!(" in {}", seconds(&wait)))
}

fn seconds(time: &Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

impl RegistryError {
    /// Tells the reason of a failure. `what` names what was asked for, `silence` how long the registry might say nothing.
    pub(super) fn of(
        registry: &str,
        what: String,
        credentials: &Credentials,
        silence: Duration,
        source: Failure,
    ) -> Self {
        let registry = registry.to_owned();
        let tried = credentials.tried();
        match source {
            Failure::Request(ref error) => match tls_failure(error) {
                Some(rustls::Error::InvalidCertificate(_)) => RegistryError::Certificate { registry, what, source },
                Some(rustls::Error::InvalidMessage(_)) => RegistryError::PlainText { registry, what, source },
                _ if error.is_redirect() => RegistryError::Redirects { registry, what, source },
                _ if error.is_timeout() && !error.is_connect() => {
                    RegistryError::Silent { registry, what, silence, source }
                }
                _ => RegistryError::Unreachable { registry, what, source },
            },
            Failure::Status { status: 401, .. } => RegistryError::Unauthorized { registry, what, tried, source },
            Failure::Status { status: 403, .. } => RegistryError::Forbidden { registry, what, tried, source },
            Failure::Status { status: 404, .. } => {
                let tried = if credentials.is_anonymous() { tried } else { String::new() };
                RegistryError::NotFound { registry, what, tried, source }
            }
            Failure::Status { status: 429, wait, .. } => {
                RegistryError::TooManyRequests { registry, what, tried, wait, source }
            }
            Failure::Status { status, wait: Some(wait), .. } => {
                RegistryError::Busy { registry, what, status, wait, source }
            }
            Failure::Status { status, .. } => RegistryError::Status { registry, what, status, source },
            Failure::Token { .. } => RegistryError::NoToken { registry, what, source },
            Failure::TooLong { limit } => RegistryError::TooLong { registry, what, limit },
            Failure::Answer(_) => RegistryError::Answer { registry, what, source },
        }
    }
}
