//! What can go wrong with a registry, named by what was asked of it.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use evenkeel_schema::Digest;
use oci_client::ParseError;
use oci_client::errors::{OciDistributionError, OciErrorCode};
use thiserror::Error;

use super::Credentials;
use crate::image::ImageError;

/// Why a registry did not give what was asked of it.
#[derive(Debug, Error)]
pub enum RegistryError {
    #[error("`{reference}` is not an image reference")]
    Reference { reference: String, source: ParseError },
    #[error("`{reference}` and `digest: {pin}` name two different digests")]
    TwoDigests { reference: String, pin: Digest },
    #[error("{registry} wants a login for {what} (HTTP status 401); {tried}")]
    Unauthorized { registry: String, what: String, tried: String, source: OciDistributionError },
    #[error("{registry} has no {what} (HTTP status 404){}", hint(.tried))]
    NotFound { registry: String, what: String, tried: String, source: OciDistributionError },
    #[error("{registry} refuses {what} (HTTP status 403); {tried}")]
    Forbidden { registry: String, what: String, tried: String, source: OciDistributionError },
    #[error("{registry} limits requests, {what} has to wait (HTTP status 429); {tried}")]
    TooManyRequests { registry: String, what: String, tried: String, source: OciDistributionError },
    #[error("{registry} cannot give {what} (HTTP status {status})")]
    Status { registry: String, what: String, status: u16, source: OciDistributionError },
    #[error(
        "{registry} shows a certificate that is not trusted, so {what} was not asked for; \
         put its authority into /etc/evenkeel/certs.d/{registry}/ca.crt"
    )]
    Certificate { registry: String, what: String, source: OciDistributionError },
    #[error(
        "the host trusts no certificate authority, without which {registry} cannot be asked; install ca-certificates"
    )]
    NoAuthorities { registry: String, source: OciDistributionError },
    #[error("{registry} speaks HTTP, not HTTPS, so {what} was not asked for; `insecure: true` allows it")]
    PlainText { registry: String, what: String, source: OciDistributionError },
    #[error("{registry} cannot be reached for {what}")]
    Unreachable { registry: String, what: String, source: OciDistributionError },
    #[error("{registry} broke off while it sent {what}, after {received} of {size} bytes")]
    BrokenOff { registry: String, what: String, received: u64, size: u64, source: io::Error },
    #[error("what {registry} sent as {what} does not have that digest: it was damaged or tampered with")]
    Content { registry: String, what: String, source: io::Error },
    #[error("the answer of {registry} for {what} cannot be understood")]
    Answer { registry: String, what: String, source: OciDistributionError },
    #[error("{what} has the digest {digest}: only sha256 is supported")]
    Digest { what: String, digest: String },
    #[error("a client for {registry} could not be made")]
    Client { registry: String, source: OciDistributionError },
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

impl RegistryError {
    /// Tells the reason from what the client says. `what` names what was asked for.
    pub(super) fn of(registry: &str, what: String, credentials: &Credentials, source: OciDistributionError) -> Self {
        let registry = registry.to_owned();
        let tried = credentials.tried();
        if let OciDistributionError::RequestError(_) = &source {
            return match tls_failure(&source) {
                Some(rustls::Error::InvalidCertificate(_)) => RegistryError::Certificate { registry, what, source },
                Some(rustls::Error::InvalidMessage(_)) => RegistryError::PlainText { registry, what, source },
                _ => RegistryError::Unreachable { registry, what, source },
            };
        }
        match status_of(&source) {
            Some(401) => RegistryError::Unauthorized { registry, what, tried, source },
            Some(403) => RegistryError::Forbidden { registry, what, tried, source },
            Some(404) => {
                let tried = if credentials.is_anonymous() { tried } else { String::new() };
                RegistryError::NotFound { registry, what, tried, source }
            }
            Some(429) => RegistryError::TooManyRequests { registry, what, tried, source },
            Some(status) => RegistryError::Status { registry, what, status, source },
            None => RegistryError::Answer { registry, what, source },
        }
    }
}

/// Gives the HTTP status that an answer had. The client keeps it for some answers only; the others' codes tell it.
fn status_of(error: &OciDistributionError) -> Option<u16> {
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => Some(401),
        OciDistributionError::ImageManifestNotFoundError(_) => Some(404),
        OciDistributionError::ServerError { code, .. } => Some(*code),
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.first().map(|error| match error.code {
            OciErrorCode::Unauthorized => 401,
            OciErrorCode::Denied => 403,
            OciErrorCode::BlobUnknown
            | OciErrorCode::ManifestBlobUnknown
            | OciErrorCode::ManifestUnknown
            | OciErrorCode::NameUnknown
            | OciErrorCode::NotFound => 404,
            OciErrorCode::Toomanyrequests => 429,
            _ => 400,
        }),
        _ => None,
    }
}

/// Tells whether a request may succeed when it is made again.
pub(super) fn is_transient(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(request) => {
            let passing = request.is_timeout() || request.is_connect() || request.is_request() || request.is_body();
            passing && tls_failure(error).is_none()
        }
        OciDistributionError::IoError(_) => true,
        _ => matches!(status_of(error), Some(429 | 500..)),
    }
}

/// Tells whether a server answered TLS in plain text.
pub(super) fn is_plaintext_answer(error: &OciDistributionError) -> bool {
    matches!(tls_failure(error), Some(rustls::Error::InvalidMessage(_)))
}

/// Finds the TLS layer's reason among the causes of an error.
fn tls_failure<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error passes over the error that it wraps when asked for its source.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
