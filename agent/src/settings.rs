//! What holds for every verb: where the state lies, which runtime runs containers, and how output looks.
//!
//! A flag wins over its environment variable, that over the configuration file, that over the default. Nothing is
//! created here, and nothing of the host is looked at beyond the configuration file.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use evenkeel_host::Paths;
use evenkeel_host::paths::{DEFAULT_ROOT, DEFAULT_RUN};
use evenkeel_schema::TimeSpan;
use serde::Deserialize;

#[cfg(test)]
mod tests;

/// The configuration file that is read where none is named; it may be missing.
pub const DEFAULT_CONFIG: &str = "/etc/evenkeel/config.yaml";
/// The time between two looks without a cause.
pub const DEFAULT_RESYNC: Duration = Duration::from_secs(60);

/// The flags that every verb takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// State directory; what survives a reboot [default: /var/lib/evenkeel]
    #[arg(long, global = true, value_name = "DIR", env = "EVENKEEL_ROOT", hide_env = true)]
    pub root: Option<PathBuf>,
    /// Run directory; what a boot starts without [default: /run/evenkeel]
    #[arg(long, global = true, value_name = "DIR", env = "EVENKEEL_RUN", hide_env = true)]
    pub run: Option<PathBuf>,
    /// OCI runtime to use in place of the built-in one, as /usr/bin/runc
    #[arg(long, global = true, value_name = "PATH", env = "EVENKEEL_RUNTIME", hide_env = true)]
    pub runtime: Option<PathBuf>,
    /// Configuration file [default: /etc/evenkeel/config.yaml, where it exists]
    #[arg(long, global = true, value_name = "FILE", env = "EVENKEEL_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// When to use color
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: When,
    /// Say more of what is done; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// When to use color; `auto` is on a terminal, unless NO_COLOR is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    #[default]
    Auto,
    Always,
    Never,
}

impl When {
    /// Decides for one stream.
    pub fn decide(self, stream: &impl IsTerminal) -> bool {
        match self {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
                !refused && !dumb && stream.is_terminal()
            }
        }
    }
}

/// The form in which data is shown; `text` is for people and may change between releases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
    Yaml,
}

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ConfigFile {
    /// State directory.
    pub root: Option<PathBuf>,
    /// Run directory.
    pub run: Option<PathBuf>,
    /// OCI runtime in place of the built-in one.
    pub runtime: Option<RuntimeCommand>,
    /// Directory of manifests for `run`.
    pub manifests: Option<PathBuf>,
    /// Time between two looks without a cause.
    pub resync: Option<TimeSpan>,
}

/// An OCI runtime's program with arguments of its own, written as a path alone or as `{program, arguments}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawRuntime")]
pub struct RuntimeCommand {
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawRuntime {
    Path(PathBuf),
    Command {
        program: PathBuf,
        #[serde(default)]
        arguments: Vec<String>,
    },
}

impl From<RawRuntime> for RuntimeCommand {
    fn from(raw: RawRuntime) -> Self {
        match raw {
            RawRuntime::Path(program) => RuntimeCommand { program, arguments: Vec::new() },
            RawRuntime::Command { program, arguments } => RuntimeCommand { program, arguments },
        }
    }
}

/// Everything that holds for every verb, decided.
#[derive(Clone, Debug)]
pub struct Settings {
    pub paths: Paths,
    /// `None` for the built-in runtime.
    pub runtime: Option<RuntimeCommand>,
    /// The directory of manifests that the configuration file names.
    pub manifests: Option<PathBuf>,
    pub resync: Duration,
    pub color: When,
}

/// Says why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read the configuration file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration file {} is wrong", path.display())]
    Parse { path: PathBuf, source: Box<serde_yaml::Error> },
    #[error("cannot tell where {} is", path.display())]
    Path { path: PathBuf, source: std::io::Error },
    #[error("there is no OCI runtime at {}", path.display())]
    NoRuntime { path: PathBuf },
}

impl Settings {
    /// Decides from flags (with their environment variables) and the configuration file.
    pub fn decide(flags: &GlobalArgs) -> Result<Settings, SettingsError> {
        let file = read_config(flags.config.as_deref())?;
        let root = flags.root.clone().or(file.root).unwrap_or_else(|| DEFAULT_ROOT.into());
        let run = flags.run.clone().or(file.run).unwrap_or_else(|| DEFAULT_RUN.into());
        let named = flags.runtime.clone().map(|program| RuntimeCommand { program, arguments: Vec::new() });
        let runtime = named.or(file.runtime).map(find_runtime).transpose()?;
        Ok(Settings {
            paths: Paths::new(settle(&root, DEFAULT_ROOT)?, settle(&run, DEFAULT_RUN)?),
            runtime,
            manifests: file.manifests,
            resync: file.resync.map_or(DEFAULT_RESYNC, |span| span.0),
            color: flags.color,
        })
    }
}

fn read_config(named: Option<&Path>) -> Result<ConfigFile, SettingsError> {
    let path = named.unwrap_or(Path::new(DEFAULT_CONFIG));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(ConfigFile::default());
        }
        Err(source) => return Err(SettingsError::Read { path: path.to_owned(), source }),
    };
    if text.trim().is_empty() {
        return Ok(ConfigFile::default());
    }
    serde_yaml::from_str(&text)
        .map_err(|source| SettingsError::Parse { path: path.to_owned(), source: Box::new(source) })
}

/// Brings a directory to the one form by which its root is known on the host: absolute, without symbolic links.
///
/// The default stays as it is written even where it is a link, so that moving the state of an installation to another
/// disk and leaving a link behind does not make its objects those of a stranger.
fn settle(path: &Path, default: &str) -> Result<PathBuf, SettingsError> {
    let failed = |source| SettingsError::Path { path: path.to_owned(), source };
    let absolute: PathBuf = std::path::absolute(path).map_err(failed)?.components().collect();
    if absolute == Path::new(default) {
        return Ok(absolute);
    }
    // It may not exist yet: what does is resolved, the rest is added.
    for existing in absolute.ancestors() {
        match existing.canonicalize() {
            Ok(resolved) => {
                let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
                return Ok(resolved.join(rest).components().collect());
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(absolute)
}

/// Finds a runtime as a shell would: a bare name along PATH, anything else as a path.
fn find_runtime(command: RuntimeCommand) -> Result<RuntimeCommand, SettingsError> {
    let missing = || SettingsError::NoRuntime { path: command.program.clone() };
    let bare = command.program.components().count() == 1 && !command.program.has_root();
    let candidates: Vec<PathBuf> = if bare {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|directory| directory.join(&command.program)).collect()
    } else {
        vec![std::path::absolute(&command.program).map_err(|_| missing())?]
    };
    let program = candidates.into_iter().find(|candidate| candidate.is_file()).ok_or_else(missing)?;
    Ok(RuntimeCommand { program, arguments: command.arguments })
}
