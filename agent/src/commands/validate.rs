//! `validate`: are the manifests right? Looks at nothing but files.

use std::path::PathBuf;

use clap::Args;
use evenkeel_manifests::{Problem, load, render};
use evenkeel_plan::{Desired, Source};
use serde::Serialize;

use super::output::{show, tell};
use super::{Failure, existing};
use crate::settings::{Format, Settings};

/// Check manifests, without looking at the host
///
/// Lists every problem of a file or directory in one go, each with file, line and column.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  evenkeel validate -f manifests/
  evenkeel validate -f web.yaml -o json

Exit codes: 0 no errors, 1 errors in the manifests, 2 the source cannot be read.")]
pub struct ValidateArgs {
    /// File or directory of manifests
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    pub file: PathBuf,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Format,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Validation<'a> {
    source: &'a Source,
    valid: bool,
    objects: usize,
    problems: &'a [Problem],
}

pub fn run(arguments: &ValidateArgs, settings: &Settings) -> Result<u8, Failure> {
    let loaded = load(&existing(&arguments.file)?);
    let errors = loaded.problems.iter().filter(|problem| problem.is_error()).count();
    let valid = errors == 0;
    let objects = loaded.desired.keys().count();
    let validation = Validation { source: &loaded.desired.source, valid, objects, problems: &loaded.problems };
    if arguments.output == Format::Text {
        show_problems(&loaded.problems, settings);
    }
    show(arguments.output, &validation, || verdict(&loaded.desired, objects, errors))?;
    match (valid, loaded.complete) {
        (_, false) => Ok(2),
        (false, true) => Ok(1),
        (true, true) => Ok(0),
    }
}

fn verdict(desired: &Desired, objects: usize, errors: usize) -> String {
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let path = desired.source.path.display();
    if errors > 0 {
        return format!("{path}: {errors} error{}\n", plural(errors));
    }
    format!("{path}: {objects} object{}, no errors\n", plural(objects))
}

/// Shows the problems of a source that is worked with all the same.
pub fn show_problems(problems: &[Problem], settings: &Settings) {
    tell(&render(problems, settings.color.decide(&std::io::stderr())));
}
