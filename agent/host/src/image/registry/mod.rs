//! Images in registries (OCI distribution spec), over HTTPS, or HTTP where that is asked for or the registry is on loopback.
//!
//! One [`Session`] per fetch: it knows its reference and its credential. The protocol is `oci-client`'s; digests and sizes
//! of all that arrives are compared by us, whatever the client checked.

mod certificates;
mod credentials;
mod download;
mod error;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Once, OnceLock};
use std::time::Duration;

use evenkeel_schema::{Digest, Platform};
use evenkeel_shim::fail_point;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::{Client, Reference, RegistryOperation};

pub use credentials::Credentials;
pub use error::RegistryError;
use error::{is_plaintext_answer, is_transient};

use super::ImageError;
use super::layout::digest_of;
use super::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Document, OCI_INDEX, OCI_MANIFEST};
use super::platform;
use super::source::Described;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a registry may say nothing in the midst of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Pauses between the attempts of one request.
const BACKOFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
const MANIFEST_TYPES: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

/// Where credentials and certificates of registries are looked for, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Files as `docker login` and `podman login` write them.
    pub credential_files: Vec<PathBuf>,
    /// Directories that hold `HOST[:PORT]/*.crt`, authorities to trust for that registry.
    pub certificate_directories: Vec<PathBuf>,
}

impl RegistrySettings {
    /// Gives the places that Docker, Podman and this program use.
    pub fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
        let podman = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from("/run/containers/0"));
        let mut credential_files: Vec<PathBuf> = variable("REGISTRY_AUTH_FILE").into_iter().collect();
        credential_files.extend(docker.map(|directory| directory.join("config.json")));
        credential_files.push(podman.join("containers/auth.json"));
        credential_files.push(PathBuf::from("/run/containers/0/auth.json"));
        credential_files.push(PathBuf::from("/etc/evenkeel/auth.json"));
        let certificates = ["/etc/evenkeel/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"];
        RegistrySettings { credential_files, certificate_directories: certificates.map(PathBuf::from).to_vec() }
    }
}

/// One reference at its registry, with the credential for it.
pub struct Session {
    client: Client,
    reference: Reference,
    credentials: Credentials,
    /// `HOST[:PORT]`, as it stands in the reference.
    registry: String,
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
        let connect = |protocol| client(protocol, &certificates, &registry);
        let protocol = if insecure { ClientProtocol::Http } else { ClientProtocol::Https };
        let mut session =
            Session { client: connect(protocol)?, reference: parsed, credentials, registry: registry.clone() };
        match session.log_in().await {
            Err(error) if !insecure && is_loopback(&registry) && is_plaintext_answer(&error) => {
                session.client = connect(ClientProtocol::Http)?;
                session.log_in().await
            }
            other => other,
        }
        .map_err(|error| session.failed(session.what(), error))?;
        Ok(session)
    }

    async fn log_in(&self) -> Result<(), OciDistributionError> {
        fail_point!("registry.login");
        let log_in = || self.client.auth(&self.reference, self.credentials.auth(), RegistryOperation::Pull);
        retried(log_in).await.map(drop)
    }

    /// Asks which digest the reference has now.
    pub async fn digest(&self) -> Result<Digest, ImageError> {
        fail_point!("registry.digest");
        let ask = || self.client.fetch_manifest_digest(&self.reference, self.credentials.auth());
        let digest = retried(ask).await.map_err(|error| self.failed(self.what(), error))?;
        digest.parse().map_err(|_| RegistryError::Digest { what: self.what(), digest }.into())
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
        let fetch = || self.client.pull_manifest_raw(reference, self.credentials.auth(), &MANIFEST_TYPES);
        let (bytes, _) = retried(fetch).await.map_err(|error| self.failed(what.clone(), error))?;
        let found = digest_of(&bytes);
        match reference.digest().map(str::parse::<Digest>) {
            Some(Ok(wanted)) if wanted != found => {
                Err(ImageError::DigestMismatch { what: "the manifest".to_owned(), source_name: what, wanted, found })
            }
            Some(Err(_)) => {
                let digest = reference.digest().unwrap_or_default().to_owned();
                Err(RegistryError::Digest { what, digest }.into())
            }
            Some(Ok(_)) | None => Ok((found, bytes.to_vec())),
        }
    }

    /// Names the reference in errors.
    fn what(&self) -> String {
        self.reference.whole()
    }

    fn failed(&self, what: String, error: OciDistributionError) -> ImageError {
        RegistryError::of(&self.registry, what, &self.credentials, error).into()
    }
}

/// Makes a client that trusts the system's authorities and the given ones.
fn client(
    protocol: ClientProtocol,
    certificates: &[oci_client::client::Certificate],
    registry: &str,
) -> Result<Client, ImageError> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the process may have installed one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    // Without any authority on the host the library panics where it is given other certificates or is to speak in plain
    // text; asked for its default it says so.
    static TRUSTED: OnceLock<()> = OnceLock::new();
    if TRUSTED.get().is_none() {
        let registry = registry.to_owned();
        let failed = |source| RegistryError::NoAuthorities { registry, source };
        Client::try_from(ClientConfig::default()).map_err(failed)?;
        TRUSTED.get_or_init(|| ());
    }
    let config = ClientConfig {
        protocol,
        extra_root_certificates: certificates.to_vec(),
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("evenkeel/", env!("CARGO_PKG_VERSION")),
        platform_resolver: None,
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|source| RegistryError::Client { registry: registry.to_owned(), source }.into())
}

/// Tries a request again where the reason that it failed may pass.
async fn retried<T, F: Future<Output = Result<T, OciDistributionError>>>(
    request: impl Fn() -> F,
) -> Result<T, OciDistributionError> {
    for pause in BACKOFF {
        match request().await {
            Err(error) if is_transient(&error) => {
                tracing::debug!(%error, "the request is tried again");
                tokio::time::sleep(pause).await;
            }
            other => return other,
        }
    }
    request().await
}

/// Tells whether a registry is on this host, where plain text is no risk.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Reads the media type that a document states itself.
fn media_type(bytes: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    Some(value.get("mediaType")?.as_str()?.to_owned())
}
