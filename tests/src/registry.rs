//! A registry on loopback for tests: Debian's `docker-registry`, with its own configuration and storage.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::program::{Run, run};

/// The user whom a registry with a password lets in.
pub const USER: &str = "alice";
pub const PASSWORD: &str = "open sesame";
/// The password as htpasswd(1) writes it, by bcrypt: the only form that the registry reads.
const HTPASSWD: &str = "alice:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

/// What kind of registry to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Speak HTTPS, with a certificate of an authority of its own ([`Registry::authority`]).
    pub tls: bool,
    /// Let in only [`USER`] with [`PASSWORD`].
    pub htpasswd: bool,
}

/// A running registry; ends with the value.
pub struct Registry {
    directory: TempDir,
    options: Options,
    port: u16,
    child: Child,
}

impl Registry {
    /// Starts a registry on a free port of 127.0.0.1 and waits until it answers.
    pub fn start(options: Options) -> Registry {
        // Between our look and its bind another may take the port: it ends at once then, and the next is tried.
        for _ in 0..10 {
            let directory = tempfile::tempdir().expect("a directory for the registry");
            if options.tls {
                certificates(directory.path());
            }
            fs::write(directory.path().join("htpasswd"), HTPASSWD).expect("the password file");
            let port = free_port();
            let child = spawn(directory.path(), options, port);
            let mut registry = Registry { directory, options, port, child };
            if registry.answers() {
                return registry;
            }
            let said = registry.log();
            assert!(said.contains("address already in use"), "the registry does not start:\n{said}");
        }
        panic!("no port of 127.0.0.1 stays free")
    }

    /// Gives `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Gives the reference of an image, `127.0.0.1:PORT/NAME:TAG` for `NAME:TAG`.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address())
    }

    /// Gives the certificate of the authority that signed the registry's.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Gives the file in which a blob's content is kept.
    pub fn blob(&self, digest_hex: &str) -> PathBuf {
        let blobs = self.directory.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&digest_hex[..2]).join(digest_hex).join("data")
    }

    /// Copies an image into the registry. `source` is one of skopeo's (`oci:DIRECTORY:TAG`, `docker-archive:FILE`), `name` as
    /// `busybox:1.36`, `more` are options of `skopeo copy`.
    pub fn push(&self, source: &str, name: &str, more: &[&str]) -> Run {
        let mut command = Command::new("skopeo");
        command.args(["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]).args(more);
        if !more.contains(&"--format") {
            // Or it compresses plain layers on the way.
            command.arg("--preserve-digests");
        }
        if self.options.htpasswd {
            command.arg("--dest-creds").arg(format!("{USER}:{PASSWORD}"));
        }
        command.arg(source).arg(format!("docker://{}", self.reference(name)));
        run(&mut command).expect_code(0)
    }

    /// Writes a credential file as `docker login` does.
    pub fn write_login(&self, path: &Path, user: &str, password: &str) {
        let input = format!("{user}:{password}");
        let encoded =
            run(Command::new("sh").args(["-c", "printf %s \"$1\" | base64 -w0", "sh", &input])).expect_code(0);
        let file = serde_json::json!({"auths": {self.address(): {"auth": encoded.stdout.trim()}}});
        fs::write(path, file.to_string()).expect("a credential file");
    }

    /// Gives what the registry has said so far, one line for each request too.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the registry's log")
    }

    /// Ends the registry; its storage stays for [`Registry::restart`].
    pub fn stop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts it once more on the same port with the same storage.
    pub fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.directory.path(), self.options, self.port);
        assert!(self.answers(), "the registry does not start again:\n{}", self.log());
    }

    fn answers(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(30) {
            if self.child.try_wait().expect("its exit status").is_some() {
                return false;
            }
            // Its log tells that it is ours that listens.
            if self.log().contains("listening on") && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Requests alone: the registry writes each twice, once at length.
            let log = self.log();
            let requests: Vec<&str> = log.lines().filter(|line| !line.contains("response completed")).collect();
            eprintln!("--- the registry's log ---\n{}", requests.join("\n"));
        }
        self.stop();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of 127.0.0.1");
    listener.local_addr().expect("its own address").port()
}

fn spawn(directory: &Path, options: Options, port: u16) -> Child {
    let path = |name: &str| directory.join(name).display().to_string();
    let mut config = serde_json::json!({
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": false}},
        "storage": {"filesystem": {"rootdirectory": path("storage")}, "delete": {"enabled": true}},
        "http": {"addr": format!("127.0.0.1:{port}"), "secret": "of a test"},
    });
    if options.tls {
        config["http"]["tls"] = serde_json::json!({"certificate": path("server.crt"), "key": path("server.key")});
    }
    if options.htpasswd {
        config["auth"] = serde_json::json!({"htpasswd": {"realm": "test", "path": path("htpasswd")}});
    }
    // JSON is YAML.
    fs::write(directory.join("config.yml"), config.to_string()).expect("the registry's configuration");
    let log = fs::File::create(directory.join("log")).expect("the registry's log");
    Command::new("docker-registry")
        .arg("serve")
        .arg(directory.join("config.yml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("docker-registry: run `make deps`")
}

/// Makes an authority, and a certificate of it for 127.0.0.1 and localhost.
fn certificates(directory: &Path) {
    let openssl =
        |arguments: &[&str]| run(Command::new("openssl").args(arguments).current_dir(directory)).expect_code(0);
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=authority of a test"];
    openssl(&[&["req", "-x509"][..], &key, &authority].concat());
    openssl(
        &[&["req", "-new"][..], &key, &["-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=registry"]]
            .concat(),
    );
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n";
    fs::write(directory.join("names"), names).expect("the certificate's names");
    openssl(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "names",
        "-out",
        "server.crt",
    ]);
}
