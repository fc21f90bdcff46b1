//! Requests to one registry: where they go, who they come from, and what an answer means.
//!
//! An answer is read no further than its kind may be long, a connection may be silent only for so long, and a request that
//! failed for a passing reason is made again, after the pause that the registry asks for.

use std::error::Error;
use std::sync::{Mutex, Once, OnceLock};
use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Certificate, Method, Response, StatusCode, Url};
use serde::Deserialize;
use thiserror::Error;

use super::credentials::Login;
use crate::image::store::locked;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Pauses between the attempts of one request, where the registry asks for no other.
pub const BACKOFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// The longest pause that is made because a registry asks for it. What asks for more is told so.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest answer of a token service, and the longest account of an error.
const SHORT_ANSWER: usize = 1 << 20;

/// Makes sure that the host trusts some authority.
///
/// Without any the library panics where it is given other certificates or is to speak in plain text; asked for its default
/// it says so.
pub fn find_authorities() -> Result<(), reqwest::Error> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another part of the process may have installed one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    static FOUND: OnceLock<()> = OnceLock::new();
    if FOUND.get().is_none() {
        reqwest::Client::builder().build()?;
        FOUND.get_or_init(|| ());
    }
    Ok(())
}

/// One registry over one protocol.
pub struct Transport {
    client: reqwest::Client,
    /// `https://HOST[:PORT]/`
    base: String,
    repository: String,
    login: Login,
    /// The value of the `Authorization` header, once the registry has said what it wants.
    authorization: Mutex<Option<String>>,
}

/// Why one request did not give what was asked for.
#[derive(Debug, Error)]
pub enum Failure {
    #[error(transparent)]
    Request(#[from] reqwest::Error),
    #[error("{}", if .said.is_empty() { "it gives no reason" } else { .said })]
    Status { status: u16, said: String, wait: Option<Duration> },
    #[error("the token service {service} cannot be used")]
    Token { service: String, source: Box<Failure> },
    #[error("it is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("{0}")]
    Answer(String),
}

/// What is asked for beside the address.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// Media types, separated by commas.
    pub accept: &'a str,
    /// The first byte that is wanted.
    pub from: u64,
}

impl Transport {
    /// Makes a client that trusts the system's authorities and the given ones. `silence` is how long a connection may carry nothing.
    pub fn new(
        address: (&str, &str, &str),
        certificates: &[Certificate],
        login: Login,
        silence: Duration,
    ) -> Result<Transport, reqwest::Error> {
        let (scheme, host, repository) = address;
        let client = reqwest::Client::builder()
            .tls_certs_merge(certificates.iter().cloned())
            .connect_timeout(CONNECT_TIMEOUT.min(silence))
            .read_timeout(silence)
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let (base, repository) = (format!("{scheme}://{host}/v2/"), repository.to_owned());
        Ok(Transport { client, base, repository, login, authorization: Mutex::new(None) })
    }

    /// Finds out whom the registry lets in, and becomes that one as far as the credential goes.
    pub async fn log_in(&self) -> Result<(), Failure> {
        let response = self.client.get(&self.base).send().await?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(refusal(response).await);
        }
        self.answer_challenge(response.headers()).await.map(drop)
    }

    /// Asks for something of the repository: `manifests/1.36`, `blobs/sha256:…`.
    pub async fn ask(&self, method: Method, path: &str, asked: Asked<'_>) -> Result<Response, Failure> {
        let url = format!("{}{}/{path}", self.base, self.repository);
        let mut response = self.send(method.clone(), &url, asked).await?;
        // A token lasts for minutes; a large image does not come as quickly.
        if response.status() == StatusCode::UNAUTHORIZED && self.answer_challenge(response.headers()).await? {
            response = self.send(method, &url, asked).await?;
        }
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Asks another server for a blob, without saying who asks.
    pub async fn ask_elsewhere(&self, url: &str, asked: Asked<'_>) -> Result<Response, Failure> {
        let address = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let address = address.ok_or_else(|| Failure::Answer(format!("{url:?} is no address to get a layer from")))?;
        let mut request = self.client.get(address);
        if asked.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", asked.from));
        }
        let response = request.send().await?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    async fn send(&self, method: Method, url: &str, asked: Asked<'_>) -> Result<Response, Failure> {
        let mut request = self.client.request(method, url);
        if let Some(authorization) = locked(&self.authorization).clone() {
            request = request.header(AUTHORIZATION, authorization);
        }
        if !asked.accept.is_empty() {
            request = request.header(ACCEPT, asked.accept);
        }
        if asked.from > 0 {
            request = request.header(RANGE, format!("bytes={}-", asked.from));
        }
        Ok(request.send().await?)
    }

    /// Takes up what a registry demands (RFC 9110 section 11.6.1), and tells whether that changed anything.
    async fn answer_challenge(&self, headers: &HeaderMap) -> Result<bool, Failure> {
        let demands: Vec<&str> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok()).collect();
        let challenges: Vec<_> =
            demands.into_iter().filter_map(|demand| http_auth::parse_challenges(demand).ok()).flatten().collect();
        let named = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        let authorization = match (&self.login, named("Bearer")) {
            (Login::Token(token), _) => Some(format!("Bearer {token}")),
            (_, Some(challenge)) => {
                let parameter = |name: &str| {
                    let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                    found.map(|(_, value)| value.to_unescaped())
                };
                let realm =
                    parameter("realm").ok_or_else(|| Failure::Answer("it names no token service".to_owned()))?;
                Some(format!("Bearer {}", self.token(&realm, parameter("service")).await?))
            }
            (Login::Password { user, password }, None) if !challenges.is_empty() => Some(basic(user, password)),
            _ => None,
        };
        let changed = authorization.is_some() && *locked(&self.authorization) != authorization;
        if changed {
            *locked(&self.authorization) = authorization;
        }
        Ok(changed)
    }

    /// Gets a token for pulling (distribution spec, "Token Authentication").
    async fn token(&self, realm: &str, service: Option<String>) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let failed = |failure| Failure::Token { service: realm.to_owned(), source: Box::new(failure) };
        let scope = format!("repository:{}:pull", self.repository);
        let mut query = vec![("scope", scope)];
        query.extend(service.map(|service| ("service", service)));
        let url = Url::parse_with_params(realm, query)
            .map_err(|_| failed(Failure::Answer("its address is no URL".to_owned())))?;
        let mut request = self.client.get(url);
        if let Login::Password { user, password } = &self.login {
            request = request.header(AUTHORIZATION, basic(user, password));
        }
        let response = request.send().await.map_err(|error| failed(error.into()))?;
        if !response.status().is_success() {
            let failure = refusal(response).await;
            // That it does not let us in is the registry's own answer.
            let refused = matches!(failure, Failure::Status { status: 401 | 403, .. });
            return Err(if refused { failure } else { failed(failure) });
        }
        let bytes = body(response, SHORT_ANSWER).await.map_err(failed)?;
        let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
        let token = answer.map(|answer| if answer.token.is_empty() { answer.access_token } else { answer.token });
        token.filter(|token| !token.is_empty()).ok_or_else(|| failed(Failure::Answer("it gives no token".to_owned())))
    }
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

/// Reads a whole answer into memory, unless it is longer than `limit`.
pub async fn body(mut response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if bytes.len() + chunk.len() > limit {
            return Err(Failure::TooLong { limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Makes a failure of an answer that is none of success.
async fn refusal(response: Response) -> Failure {
    let status = response.status().as_u16();
    let wait = response.headers().get(RETRY_AFTER).and_then(|value| pause_of(value.to_str().ok()?));
    // What it says of the reason is an extra: the status counts.
    let said = body(response, SHORT_ANSWER).await.map_or_else(|_| String::new(), |bytes| reason(&bytes));
    Failure::Status { status, said, wait }
}

/// Reads the account of an error (distribution spec, "Error Codes"), or the first line of whatever text there is.
fn reason(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Envelope {
        errors: Vec<Account>,
    }
    #[derive(Deserialize)]
    struct Account {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    const SHOWN: usize = 200;
    let text = match serde_json::from_slice::<Envelope>(bytes) {
        Ok(Envelope { errors }) => {
            let words = errors.into_iter().map(|error| format!("{} {}", error.code, error.message).trim().to_owned());
            words.collect::<Vec<_>>().join(", ")
        }
        Err(_) => String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().trim().to_owned(),
    };
    text.chars().filter(|character| !character.is_control()).take(SHOWN).collect()
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110 section 10.2.3).
fn pause_of(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let format = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    let date = time::PrimitiveDateTime::parse(value.trim(), format).ok()?.assume_utc();
    Some(SystemTime::from(date).duration_since(SystemTime::now()).unwrap_or_default())
}

impl Failure {
    /// Gives how long to wait before the request is made again; `None` where that is of no use.
    pub fn pause(&self, backoff: Duration) -> Option<Duration> {
        match self {
            Failure::Request(error) => {
                let broken = error.is_body() || error.is_decode();
                let passing = error.is_timeout() || error.is_connect() || error.is_request() || broken;
                (passing && tls_failure(error).is_none()).then_some(backoff)
            }
            Failure::Status { status: 408 | 429 | 500..=599, wait, .. } => match wait {
                Some(wait) => (*wait <= LONGEST_PAUSE).then_some(backoff.max(*wait)),
                None => Some(backoff),
            },
            Failure::Token { source, .. } => source.pause(backoff),
            Failure::Status { .. } | Failure::TooLong { .. } | Failure::Answer(_) => None,
        }
    }

    /// Tells whether a server answered TLS in plain text.
    pub fn is_plaintext_answer(&self) -> bool {
        matches!(tls_failure(self), Some(rustls::Error::InvalidMessage(_)))
    }
}

/// Makes a request again where the reason that it failed may pass.
pub async fn retried<T, F: Future<Output = Result<T, Failure>>>(request: impl Fn() -> F) -> Result<T, Failure> {
    for backoff in BACKOFF {
        let failure = match request().await {
            Err(failure) => failure,
            done => return done,
        };
        let Some(pause) = failure.pause(backoff) else { return Err(failure) };
        tracing::debug!(%failure, ?pause, "the request is made again");
        tokio::time::sleep(pause).await;
    }
    request().await
}

/// Finds the TLS layer's reason among the causes of an error.
pub fn tls_failure<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error passes over the error that it wraps when asked for its source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
