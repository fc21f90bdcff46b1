//! What Debian's registry does not do on demand: tokens, broken connections, passing failures; and credential files.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use evenkeel_schema::{ImageSource, ImageSpec, PullPolicy};

use super::credentials::Login;
use super::*;
use crate::Paths;
use crate::image::upstream::{Question, Upstream};
use crate::image::{Quiet, Store};

/// A request's line, its `Authorization` and its `Range`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Request {
    path: String,
    authorization: String,
    range: Option<usize>,
}

struct Answer {
    status: &'static str,
    headers: String,
    body: Vec<u8>,
    /// How much of the body is sent before the connection breaks.
    sent: usize,
}

impl Answer {
    fn new(status: &'static str, body: &[u8]) -> Self {
        Answer { status, headers: String::new(), body: body.to_vec(), sent: body.len() }
    }

    fn with(self, header: &str) -> Self {
        Answer { headers: format!("{}{header}\r\n", self.headers), ..self }
    }
}

/// A registry that answers as a test says, one connection at a time for each thread.
struct FakeRegistry {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeRegistry {
    fn start(answer: impl Fn(&str, &Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen, host) = (Arc::new(answer), requests.clone(), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, seen, host) = (answer.clone(), seen.clone(), host.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &host, &seen, &*answer));
            }
        });
        FakeRegistry { address, requests }
    }

    fn paths(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Answers one request; a client that speaks TLS is answered in plain text.
fn serve(
    mut stream: TcpStream,
    host: &str,
    seen: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&str, &Request, usize) -> Answer,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap())
        .split(b'\n')
        .map(|line| String::from_utf8_lossy(&line.unwrap_or_default()).trim().to_owned());
    let first = lines.next().unwrap_or_default();
    let Some(path) = first.strip_prefix("GET ").or(first.strip_prefix("HEAD ")) else {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").ok();
        return;
    };
    let mut request = Request { path: path.split(' ').next().unwrap_or_default().to_owned(), ..Request::default() };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = value.to_owned(),
            "range" => request.range = value.trim_start_matches("bytes=").trim_end_matches('-').parse().ok(),
            _ => {}
        }
    }
    let earlier = {
        let mut seen = seen.lock().unwrap();
        let earlier = seen.iter().filter(|other| other.path == request.path).count();
        seen.push(request.clone());
        earlier
    };
    let Answer { status, headers, body, sent } = answer(host, &request, earlier);
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent])).ok();
}

/// An image of one layer in memory.
struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

impl Image {
    fn new(content: &[u8]) -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "file", content).unwrap();
        let layer = builder.into_inner().unwrap();
        let config = serde_json::json!({
            "os": "linux", "architecture": platform::machine().architecture,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let descriptor = |media_type, bytes: &[u8]| Descriptor::of(media_type, digest_of(bytes), bytes.len() as u64);
        let layers = [descriptor(crate::image::manifest::OCI_LAYER, &layer)];
        let manifest =
            crate::image::manifest::write_manifest(&descriptor(crate::image::manifest::OCI_CONFIG, &config), &layers);
        Image { manifest, config, layer }
    }

    fn is_layer(&self, request: &Request) -> bool {
        request.path.ends_with(digest_of(&self.layer).as_str())
    }

    /// Answers as a registry without a login would.
    fn answer(&self, request: &Request) -> Answer {
        let ends = |bytes: &[u8]| request.path.ends_with(digest_of(bytes).as_str());
        if request.path == "/v2/" {
            Answer::new("200 OK", b"{}")
        } else if self.is_layer(request) {
            Answer::new("200 OK", &self.layer)
        } else if ends(&self.config) {
            Answer::new("200 OK", &self.config)
        } else if request.path == "/v2/app/manifests/1" {
            Answer::new("200 OK", &self.manifest).with(&format!("content-type: {OCI_MANIFEST}"))
        } else {
            Answer::new("404 Not Found", br#"{"errors": [{"code": "MANIFEST_UNKNOWN"}]}"#)
        }
    }
}

/// Fetches `app:1` from a fake registry and gives the layer's only file.
async fn pull(registry: &FakeRegistry, credential_files: Vec<PathBuf>) -> Result<Vec<u8>, ImageError> {
    pull_into(tempfile::tempdir().unwrap().path(), registry, credential_files).await
}

async fn pull_into(
    directory: &Path,
    registry: &FakeRegistry,
    credential_files: Vec<PathBuf>,
) -> Result<Vec<u8>, ImageError> {
    let paths = Paths::new(directory.join("root"), directory.join("run"));
    let settings = RegistrySettings { credential_files, ..RegistrySettings::default() };
    let store = Store::with_registries(&paths, settings).unwrap();
    let spec = ImageSpec {
        source: ImageSource::Registry(format!("{}/app:1", registry.address)),
        digest: None,
        pull: PullPolicy::Missing,
        platform: None,
        insecure: false,
    };
    let image = store.fetch(&"app".parse().unwrap(), &spec, &Quiet).await?;
    Ok(fs::read(store.layer_directories(&image)[0].join("file")).unwrap())
}

#[tokio::test]
async fn a_token_is_fetched_where_the_registry_sends_us() {
    let image = Image::new(b"content");
    let registry = FakeRegistry::start(move |host, request, _| match request.authorization.as_str() {
        // Base64 of `alice:secret`.
        "Basic YWxpY2U6c2VjcmV0" if request.path.starts_with("/token") => {
            Answer::new("200 OK", br#"{"token": "letmein"}"#)
        }
        "Bearer letmein" => image.answer(request),
        _ => {
            let challenge = format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"fake\"");
            Answer::new("401 Unauthorized", b"{}").with(&challenge)
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let login = |password: &str| {
        let auths = serde_json::json!({"auths": {&registry.address: {"username": "alice", "password": password}}});
        fs::write(&file, auths.to_string()).unwrap();
    };
    login("secret");
    assert_eq!(pull(&registry, vec![file.clone()]).await.unwrap(), b"content");
    let token = registry.paths().into_iter().find(|request| request.path.starts_with("/token")).unwrap();
    assert!(token.path.contains("scope=repository%3Aapp%3Apull"), "{token:?}");

    login("wrong");
    let error = pull(&registry, vec![file.clone()]).await.unwrap_err();
    assert!(error.to_string().contains(&format!("the credential in {} was used", file.display())), "{error}");
}

#[tokio::test]
async fn a_broken_download_is_taken_up_where_it_broke() {
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let image = Image::new(&content);
    let registry = FakeRegistry::start(move |_, request, earlier| {
        let mut answer = image.answer(request);
        if image.is_layer(request) {
            if let Some(from) = request.range {
                let total = answer.body.len();
                answer = Answer::new("206 Partial Content", &answer.body[from..])
                    .with(&format!("content-range: bytes {from}-{}/{total}", total - 1));
            }
            if earlier < 3 {
                answer.sent = answer.body.len() / 3;
            }
        }
        answer
    });
    assert_eq!(pull(&registry, Vec::new()).await.unwrap(), content);
    let requests = registry.paths();
    let ranges: Vec<_> = requests.iter().filter(|r| r.path.contains("/blobs/")).map(|r| r.range).collect();
    assert_eq!(ranges.iter().filter(|range| range.is_some()).count(), 3, "{ranges:?}");
}

#[tokio::test]
async fn a_layer_is_unpacked_while_it_comes() {
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    let image = Image::new(&content);
    let directory = tempfile::tempdir().unwrap();
    let layers = directory.path().join("root/layers");
    let unpacked_before_the_end = Arc::new(Mutex::new(false));
    let seen = unpacked_before_the_end.clone();
    let registry = FakeRegistry::start(move |_, request, earlier| {
        let mut answer = image.answer(request);
        if image.is_layer(request) && earlier == 0 {
            answer.sent = answer.body.len() / 2;
        } else if let Some(from) = request.range {
            let begun = || !glob(&layers, &[".tmp-", ".tmp", "file"]).is_empty();
            let deadline = Instant::now() + Duration::from_secs(60);
            while !begun() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            *seen.lock().unwrap() = begun();
            answer = Answer::new("206 Partial Content", &answer.body[from..]);
        }
        answer
    });
    assert_eq!(pull_into(directory.path(), &registry, Vec::new()).await.unwrap(), content);
    assert!(*unpacked_before_the_end.lock().unwrap());
}

/// Lists what lies below a directory along names that begin so.
fn glob(directory: &Path, prefixes: &[&str]) -> Vec<PathBuf> {
    let Some((prefix, rest)) = prefixes.split_first() else { return vec![directory.to_owned()] };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let fitting = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    fitting.flat_map(|entry| glob(&entry.path(), rest)).collect()
}

#[tokio::test]
async fn a_registry_without_ranges_sends_all_again() {
    let content = vec![7; 500_000];
    let image = Image::new(&content);
    let registry = FakeRegistry::start(move |_, request, earlier| {
        let mut answer = image.answer(request);
        if image.is_layer(request) && earlier == 0 {
            answer.sent = 100_000;
        }
        answer
    });
    assert_eq!(pull(&registry, Vec::new()).await.unwrap(), content);
}

#[tokio::test]
async fn what_was_taken_up_wrongly_is_noticed() {
    let content = vec![7; 500_000];
    let image = Image::new(&content);
    let registry = FakeRegistry::start(move |_, request, _| {
        let mut answer = image.answer(request);
        if image.is_layer(request) {
            answer.sent = 100_000;
            if let Some(from) = request.range {
                // The right length, other bytes.
                answer = Answer::new("206 Partial Content", &vec![8; answer.body.len() - from]);
            }
        }
        answer
    });
    let error = pull(&registry, Vec::new()).await.unwrap_err();
    assert!(matches!(error, ImageError::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn failures_that_pass_are_waited_out_and_others_are_told() {
    let image = Image::new(b"content");
    let registry = FakeRegistry::start(move |_, request, earlier| {
        if earlier < 1 { Answer::new("503 Service Unavailable", b"later") } else { image.answer(request) }
    });
    assert_eq!(pull(&registry, Vec::new()).await.unwrap(), b"content");

    let registry = FakeRegistry::start(|_, request, _| match request.path.as_str() {
        "/v2/" => Answer::new("200 OK", b"{}"),
        _ => Answer::new("500 Internal Server Error", b"the disk is full"),
    });
    let error = pull(&registry, Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("cannot give") && error.to_string().contains("HTTP status 500"), "{error}");

    let registry = FakeRegistry::start(|_, request, _| match request.path.as_str() {
        "/v2/" => Answer::new("200 OK", b"{}"),
        _ => Answer::new("200 OK", br#"{"schemaVersion": 1, "fsLayers": []}"#),
    });
    let error = pull(&registry, Vec::new()).await.unwrap_err();
    assert!(error.to_string().contains("docker schema 1"), "{error}");
}

#[test]
fn references_are_read_as_docker_reads_them() {
    for (text, whole) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("postgres:16", "docker.io/library/postgres:16"),
        ("someone/tool", "docker.io/someone/tool:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("registry.example:5000/a/b/c:1", "registry.example:5000/a/b/c:1"),
    ] {
        assert_eq!(Reference::try_from(text).unwrap().whole(), whole);
    }
    let loopback = ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.8.8"];
    assert!(loopback.into_iter().all(is_loopback));
    assert!(!["10.0.0.1:5000", "localhost.example", "registry.example"].into_iter().any(is_loopback));
}

#[test]
fn the_most_exact_credential_wins() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, value: serde_json::Value| {
        let path = directory.path().join(name);
        fs::write(&path, value.to_string()).unwrap();
        path
    };
    // Base64 of `USER:p`.
    let entry = |user: &str| serde_json::json!({"auth": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{user}:p"))});
    let docker = write(
        "docker.json",
        serde_json::json!({
            "auths": {"https://index.docker.io/v1/": entry("hub"), "stored.example": {}},
            "credsStore": "desktop",
            "credHelpers": {"helped.example": "cloud"},
        }),
    );
    let podman = write(
        "podman.json",
        serde_json::json!({"auths": {
            "quay.example": entry("host"),
            "quay.example/team": entry("team"),
            "quay.example/team/app": entry("app"),
            "helped.example": entry("later"),
            "broken.example": {"auth": "!"},
        }}),
    );
    let files = [directory.path().join("missing.json"), docker, podman];
    let user = |registry: &str, repository: &str| match Credentials::find(&files, registry, repository).unwrap().login()
    {
        Login::Password { user, .. } => user.clone(),
        Login::Anonymous => "nobody".to_owned(),
        Login::Token(_) => "token".to_owned(),
    };
    assert_eq!(user("docker.io", "library/busybox"), "hub");
    assert_eq!(user("quay.example", "team/app"), "app");
    assert_eq!(user("quay.example", "team/other"), "team");
    assert_eq!(user("quay.example", "teams/app"), "host");
    assert_eq!(user("helped.example", "a"), "later", "a later file may have what a helper would");
    assert_eq!(user("other.example", "a"), "nobody");
    let stored = Credentials::find(&files, "stored.example", "a").unwrap();
    assert!(stored.tried().contains("the helper `desktop`"), "{}", stored.tried());
    let error = Credentials::find(&files, "broken.example", "a").unwrap_err();
    assert!(error.to_string().contains("broken.example in ") && error.to_string().contains("podman.json"), "{error}");
    let secret = Credentials::find(&files, "quay.example", "a").unwrap();
    assert!(!format!("{secret:?} {}", secret.tried()).contains("host:p"));
}

#[test]
fn certificates_are_found_with_and_without_the_port() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().to_owned();
    let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    for (host, text) in [("r.example:5000", pem.repeat(2)), ("r.example", pem.to_owned())] {
        fs::create_dir(certs.join(host)).unwrap();
        fs::write(certs.join(host).join("ca.crt"), text).unwrap();
        fs::write(certs.join(host).join("client.key"), "not for us").unwrap();
    }
    let count = |registry: &str| {
        certificates::find(&[certs.clone(), Path::new("/nowhere").to_owned()], registry).unwrap().len()
    };
    assert_eq!(count("r.example:5000"), 3, "a bundle holds several");
    assert_eq!(count("r.example"), 1);
    assert_eq!(count("s.example:5000"), 0);
}

#[tokio::test]
async fn looks_ask_a_registry_once_in_a_while() {
    let image = Image::new(b"content");
    let digest = digest_of(&image.manifest);
    let registry = FakeRegistry::start(move |_, request, _| image.answer(request));
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::new(directory.path().join("root"), directory.path().join("run"));
    let spec = always(&format!("{}/app:1", registry.address));
    let name = "app".parse().unwrap();
    // The second store is another program's, which knows of no answer yet.
    for asks in [false, true] {
        let store = Store::with_registries(&paths, RegistrySettings::default()).unwrap();
        if !asks {
            store.fetch(&name, &spec, &Quiet).await.unwrap();
        }
        let mut before = registry.paths().len();
        for asks in [asks, false] {
            let seen = store.observe(&name, Some(&spec)).await;
            assert_eq!(seen.found().unwrap().upstream, Some(Ok(digest.clone())));
            assert_eq!(registry.paths().len() > before, asks);
            before = registry.paths().len();
        }
        store.ask_registries_again();
        store.observe(&name, Some(&spec)).await;
        assert!(registry.paths().len() > before);
    }
}

#[tokio::test]
async fn a_silent_registry_is_waited_for_until_the_looks_deadline() {
    // Whoever connects is heard by nobody.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let reference = format!("{}/app:1", listener.local_addr().unwrap());
    let upstream = Upstream::default();
    for _ in 0..2 {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(100);
        let question = Question::of(&reference, &always(&reference));
        let said = upstream.ask(&RegistrySettings::default(), question, deadline).await.unwrap_err();
        assert!(said.contains(&reference) && said.contains("has not answered yet"), "{said}");
    }
}

fn always(reference: &str) -> ImageSpec {
    ImageSpec {
        source: ImageSource::Registry(reference.to_owned()),
        digest: None,
        pull: PullPolicy::Always,
        platform: None,
        insecure: false,
    }
}

#[test]
fn credentials_are_looked_for_where_docker_and_podman_keep_them() {
    let files = |variables: &[(&str, &str)]| -> Vec<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        credential_files(variable).iter().map(|file| file.display().to_string()).collect()
    };
    let everybodys = ["/run/containers/0/auth.json", "/etc/evenkeel/auth.json"];
    assert_eq!(files(&[]), everybodys);
    let all = files(&[("REGISTRY_AUTH_FILE", "/file"), ("HOME", "/root"), ("XDG_RUNTIME_DIR", "/run/user/0")]);
    assert_eq!(all[..3], ["/file", "/root/.docker/config.json", "/run/user/0/containers/auth.json"]);
    assert_eq!(all[3..], everybodys);
}
