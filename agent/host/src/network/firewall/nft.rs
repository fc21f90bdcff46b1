//! Runs `nft`: once to load, once to list. What is loaded and what a listing means is decided elsewhere.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use evenkeel_shim::fail_point;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;

use crate::network::NetworkError;

/// How long nft may take: a listing of some thousand ports takes a second, and nobody must wait for a program that hangs.
const LISTING: Duration = Duration::from_secs(15);
const LOADING: Duration = Duration::from_secs(60);

/// A started `nft` that waits for the script it is to load.
#[derive(Debug)]
pub(in crate::network) struct Loader(Child);

impl Loader {
    pub(super) fn start() -> io::Result<Loader> {
        let mut command = tokio::process::Command::new("nft");
        command.args(["-f", "-"]).env("LC_ALL", "C").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().map(Loader)
    }

    /// Loads a script in one transaction.
    pub(super) async fn load(self, script: &Script) -> Result<(), NetworkError> {
        let hangs = NetworkError::NftHangs { table: script.table.clone(), deed: "load", after: LOADING };
        tokio::time::timeout(LOADING, self.load_patiently(script)).await.unwrap_or(Err(hangs))
    }

    /// Ends it without a script.
    pub(super) async fn end(mut self) {
        // Where it cannot be ended, it ends with its input.
        let _ = self.0.kill().await;
    }

    async fn load_patiently(self, script: &Script) -> Result<(), NetworkError> {
        let child = self.read(script).await?;
        fail_point!("firewall.loading");
        loaded(child, &script.table).await
    }

    /// Has it read the script to its end.
    async fn read(self, script: &Script) -> Result<Child, NetworkError> {
        let Loader(mut child) = self;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(script.text.as_bytes()).await {
                // It says on standard error why it did not want to read on.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(not_run(&script.table, error)),
                _ => {}
            }
        }
        Ok(child)
    }
}

/// Loads a script in one transaction.
pub(super) async fn load(script: &Script) -> Result<(), NetworkError> {
    start(script)?.load(script).await
}

fn start(script: &Script) -> Result<Loader, NetworkError> {
    Loader::start().map_err(|source| not_run(&script.table, source))
}

async fn loaded(child: Child, table: &str) -> Result<(), NetworkError> {
    let output = child.wait_with_output().await.map_err(|source| not_run(table, source))?;
    if output.status.success() { Ok(()) } else { Err(refused(table, "load", &output)) }
}

/// Tells whether there is such a program on the search path. Without one nothing is to be called in order, since nothing could be
/// mended.
pub(super) fn is_there() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join("nft").is_file())
}

/// Lists a table as JSON; `None` where there is none.
pub(super) async fn list(table: &str) -> Result<Option<String>, NetworkError> {
    listed(table, &["-j", "list", "table", "inet", table]).await
}

/// Lists a table in nft's own language, with the handles of its rules.
pub(super) async fn list_text(table: &str) -> Result<Option<String>, NetworkError> {
    listed(table, &["-a", "list", "table", "inet", table]).await
}

async fn listed(table: &str, arguments: &[&str]) -> Result<Option<String>, NetworkError> {
    let mut command = tokio::process::Command::new("nft");
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true);
    let hangs = |_| NetworkError::NftHangs { table: table.to_owned(), deed: "list", after: LISTING };
    let output = tokio::time::timeout(LISTING, command.output()).await.map_err(hangs)?;
    let output = output.map_err(|source| not_run(table, source))?;
    match output.status.success() {
        true => Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned())),
        false if String::from_utf8_lossy(&output.stderr).contains("No such file or directory") => Ok(None),
        false => Err(refused(table, "list", &output)),
    }
}

/// Loads a script and lists the table, in the namespace of the calling thread.
pub(super) fn load_and_list_here(script: Script) -> Result<String, NetworkError> {
    let Script { table, .. } = &script;
    let hangs = NetworkError::NftHangs { table: table.clone(), deed: "load", after: LISTING };
    // A runtime of this thread's own: what starts programs for the others does so in their namespace.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|source| not_run(table, source))?.block_on(async {
        let load = async { loaded(start(&script)?.read(&script).await?, table).await };
        tokio::time::timeout(LISTING, load).await.unwrap_or(Err(hangs))?;
        Ok(list(table).await?.unwrap_or_default())
    })
}

fn not_run(table: &str, source: io::Error) -> NetworkError {
    let table = table.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => NetworkError::NoNft { table },
        _ => NetworkError::Nft { table, source },
    }
}

fn refused(table: &str, deed: &'static str, output: &Output) -> NetworkError {
    let said = String::from_utf8_lossy(&output.stderr);
    // The rest repeats the script.
    let said = said.lines().next().unwrap_or_default().trim_start_matches("Error: ").to_owned();
    NetworkError::NftRefused { table: table.to_owned(), deed, said, status: output.status }
}

/// What `nft -f -` is to read, and the table that it is about.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub table: String,
    pub text: String,
}
