//! Images in registries (OCI distribution spec), over HTTPS, or HTTP where that is asked for or the registry is on loopback.
//!
//! One [`Session`] per fetch: it knows its reference and its credential. Digests and sizes of all that arrives
//! are compared here; what is read into memory is bounded.

mod certificates;
mod credentials;
mod download;
mod error;
#[cfg(test)]
mod tests;
mod transport;

use std::path::PathBuf;
use std::time::Duration;

use evenkeel_schema::{Digest, Platform, TimeSpan};
use evenkeel_shim::fail_point;
use oci_spec::distribution::Reference;
use reqwest::Method;

pub use credentials::Credentials;
pub use error::RegistryError;
use transport::{Asked, Failure, Transport, body, retried};

use super::ImageError;
use super::layout::digest_of;
use super::manifest::{DOCKER_LIST, DOCKER_MANIFEST, DOCUMENT_LIMIT, Descriptor, Document, OCI_INDEX, OCI_MANIFEST};
use super::platform;
use super::source::Described;

/// How long a registry may say nothing in the midst of an answer, where nothing else is set.
const SILENCE: Duration = Duration::from_secs(30);
/// How long an answer about a tag counts, where nothing else is set.
const FRESHNESS: Duration = Duration::from_secs(60);

/// Where credentials and certificates of registries are looked for, in this order, and how patient we are with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Files as `docker login` and `podman login` write them.
    pub credential_files: Vec<PathBuf>,
    /// Directories that hold `HOST[:PORT]/*.crt`, authorities to trust for that registry.
    pub certificate_directories: Vec<PathBuf>,
    /// How long a registry may say nothing before the attempt is given up. No limit on the whole of a download.
    pub silence: Duration,
    /// How long looks take what a registry said of a tag for what it says now.
    pub freshness: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        RegistrySettings {
            credential_files: Vec::new(),
            certificate_directories: Vec::new(),
            silence: SILENCE,
            freshness: FRESHNESS,
        }
    }
}

impl RegistrySettings {
    /// Gives the places that Docker, Podman and this program use.
    ///
    /// # Errors
    /// Where `EVENKEEL_REGISTRY_SILENCE` is no length of time.
    pub fn from_environment() -> Result<Self, ImageError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let credential_files = credential_files(variable);
        let certificates = ["/etc/evenkeel/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"];
        let certificate_directories = certificates.map(PathBuf::from).to_vec();
        let silence = match std::env::var("EVENKEEL_REGISTRY_SILENCE") {
            Ok(value) if !value.is_empty() => {
                let span = value.parse::<TimeSpan>().ok().filter(|span| !span.0.is_zero());
                span.ok_or(RegistryError::Silence { value })?.0
            }
            _ => SILENCE,
        };
        Ok(RegistrySettings { credential_files, certificate_directories, silence, freshness: FRESHNESS })
    }
}

/// Lists the files that may hold credentials, by the environment's variables.
fn credential_files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
    let podman = variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
    let mut files: Vec<PathBuf> = variable("REGISTRY_AUTH_FILE").into_iter().collect();
    files.extend(docker.map(|directory| directory.join("config.json")));
    files.extend(podman);
    // Where podman has root's without a session (containers-auth.json(5)).
    files.push(PathBuf::from("/run/containers/0/auth.json"));
    files.push(PathBuf::from("/etc/evenkeel/auth.json"));
    files
}

/// One reference at its registry, with the credential for it.
pub struct Session {
    transport: Transport,
    reference: Reference,
    credentials: Credentials,
    /// `HOST[:PORT]`, as it stands in the reference.
    registry: String,
    silence: Duration,
}

impl Session {
    /// Logs in to a reference's registry. `pin` takes the place of the reference's tag: a tag may have moved on.
    pub async fn open(
        settings: &RegistrySettings,
        reference: &str,
        pin: Option<&Digest>,
        insecure: bool,
    ) -> Result<Session, ImageError> {
        let parsed = Reference::try_from(reference)
            .map_err(|source| RegistryError::Reference { reference: reference.to_owned(), source })?;
        let parsed = match (parsed.digest(), pin) {
            (Some(stated), Some(pin)) if stated != pin.as_str() => {
                return Err(RegistryError::TwoDigests { reference: reference.to_owned(), pin: pin.clone() }.into());
            }
            (_, Some(pin)) => parsed.clone_with_digest(pin.to_string()),
            (_, None) => parsed,
        };
        let registry = parsed.registry().to_owned();
        let credentials = Credentials::find(&settings.credential_files, &registry, parsed.repository())?;
        let certificates = certificates::find(&settings.certificate_directories, &registry)?;
        let (host, repository) = (parsed.resolve_registry().to_owned(), parsed.repository().to_owned());
        let login = credentials.login().clone();
        transport::find_authorities()
            .map_err(|source| RegistryError::NoAuthorities { registry: registry.clone(), source })?;
        let connect = |scheme| {
            Transport::new((scheme, &host, &repository), &certificates, login.clone(), settings.silence)
                .map_err(|source| RegistryError::Client { registry: registry.clone(), source })
        };
        let mut session = Session {
            transport: connect(if insecure { "http" } else { "https" })?,
            reference: parsed,
            credentials,
            registry: registry.clone(),
            silence: settings.silence,
        };
        fail_point!("registry.login");
        match retried(|| session.transport.log_in()).await {
            Err(failure) if !insecure && is_loopback(&registry) && failure.is_plaintext_answer() => {
                session.transport = connect("http")?;
                retried(|| session.transport.log_in()).await
            }
            other => other,
        }
        .map_err(|failure| session.failed(session.what(), failure))?;
        Ok(session)
    }

    /// Asks which digest the reference has now.
    pub async fn digest(&self) -> Result<Digest, ImageError> {
        fail_point!("registry.digest");
        let (accept, path) = (MANIFEST_TYPES.join(","), manifest_path(&self.reference));
        let ask = || self.transport.ask(Method::HEAD, &path, Asked { accept: &accept, from: 0 });
        let stated = match retried(ask).await {
            Ok(response) => response.headers().get("docker-content-digest").cloned(),
            // Not every registry answers to HEAD.
            Err(Failure::Status { status: 405, .. }) => None,
            Err(failure) => return Err(self.failed(self.what(), failure)),
        };
        match stated.as_ref().and_then(|value| value.to_str().ok()) {
            Some(digest) => digest
                .parse()
                .map_err(|_| RegistryError::Digest { what: self.what(), digest: digest.to_owned() }.into()),
            None => Ok(self.manifest(&self.reference).await?.0),
        }
    }

    /// Reads what image the reference stands for: of an index, the one for `wanted`.
    pub async fn describe(&self, wanted: &Platform) -> Result<Described, ImageError> {
        let name = self.what();
        let (digest, mut bytes) = self.manifest(&self.reference).await?;
        let mut document = Document::parse(&bytes, &name)?;
        let (mut index, mut manifest_digest) = (None, digest.clone());
        if let Document::Index(entries) = document {
            let chosen = platform::choose(&entries, wanted, &name)?;
            let media_type = media_type(&bytes).unwrap_or(OCI_INDEX.to_owned());
            index = Some((Descriptor::of(&media_type, digest.clone(), bytes.len() as u64), bytes));
            let reference = self.reference.clone_with_digest(chosen.digest.to_string());
            (manifest_digest, bytes) = self.manifest(&reference).await?;
            document = Document::parse(&bytes, &format!("{manifest_digest} of {name}"))?;
        }
        let Document::Manifest { config, layers } = document else {
            let media_type = "an index within an index".to_owned();
            return Err(ImageError::MediaType { what: format!("{manifest_digest} of {name}"), media_type });
        };
        let media_type = media_type(&bytes).unwrap_or(OCI_MANIFEST.to_owned());
        let manifest = (Descriptor::of(&media_type, manifest_digest, bytes.len() as u64), bytes);
        let configuration = self.document(&config).await?;
        Described::new(&name, digest, index, manifest, (config, configuration), layers, Vec::new())
    }

    /// Fetches a manifest or index, and compares its digest with the reference's.
    async fn manifest(&self, reference: &Reference) -> Result<(Digest, Vec<u8>), ImageError> {
        fail_point!("registry.manifest");
        let what = reference.whole();
        let (accept, path) = (MANIFEST_TYPES.join(","), manifest_path(reference));
        let fetch = || async {
            let response = self.transport.ask(Method::GET, &path, Asked { accept: &accept, from: 0 }).await?;
            body(response, DOCUMENT_LIMIT).await
        };
        let bytes = retried(fetch).await.map_err(|failure| self.failed(what.clone(), failure))?;
        let found = digest_of(&bytes);
        match reference.digest().map(str::parse::<Digest>) {
            Some(Ok(wanted)) if wanted != found => {
                Err(ImageError::DigestMismatch { what: "the manifest".to_owned(), source_name: what, wanted, found })
            }
            Some(Err(_)) => {
                let digest = reference.digest().unwrap_or_default().to_owned();
                Err(RegistryError::Digest { what, digest }.into())
            }
            Some(Ok(_)) | None => Ok((found, bytes)),
        }
    }

    /// Names the reference in errors.
    fn what(&self) -> String {
        self.reference.whole()
    }

    fn failed(&self, what: String, failure: Failure) -> ImageError {
        RegistryError::of(&self.registry, what, &self.credentials, self.silence, failure).into()
    }
}

const MANIFEST_TYPES: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

fn manifest_path(reference: &Reference) -> String {
    format!("manifests/{}", reference.digest().or(reference.tag()).unwrap_or("latest"))
}

/// Tells whether a registry is on this host, where plain text is no risk.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Reads the media type that a document states itself.
fn media_type(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    serde_json::from_slice::<Typed>(bytes).ok()?.media_type
}
