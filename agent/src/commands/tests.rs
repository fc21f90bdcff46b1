use clap::{CommandFactory, Parser};

use super::*;

fn parse(words: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("evenkeel").chain(words.split_whitespace()))
}

#[test]
fn the_definition_of_the_command_line_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_explains_itself() {
    let mut command = Cli::command();
    command.build();
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    assert_eq!(verbs.join(" "), "validate plan apply diff drift run status ps logs exec inspect stop start");
    for name in &verbs {
        let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
        assert!(help.contains("Examples:"), "{name} has no example");
        insta::assert_snapshot!(format!("help_{name}"), help);
    }
}

#[test]
fn global_flags_stand_before_or_after_the_verb() {
    for words in ["--root /a --run /b ps", "ps --root /a --run /b"] {
        let cli = parse(words).unwrap();
        assert_eq!(cli.global.root.as_deref(), Some(Path::new("/a")));
        assert_eq!(cli.global.run.as_deref(), Some(Path::new("/b")));
    }
}

#[test]
fn what_follows_the_container_is_the_command_of_exec() {
    let Verb::Exec(exec) = parse("exec -it -e A=1 web ls -l --color -o x").unwrap().verb else { panic!() };
    assert!(exec.interactive && exec.tty);
    assert_eq!(exec.container, "web");
    assert_eq!(exec.command, ["ls", "-l", "--color", "-o", "x"]);
    let Verb::Exec(exec) = parse("exec web -- ls -l").unwrap().verb else { panic!() };
    assert_eq!(exec.command, ["ls", "-l"]);
    assert!(parse("exec web").is_err());
}

#[test]
fn a_source_is_required_where_there_is_no_other() {
    for verb in ["plan", "diff", "validate"] {
        assert!(parse(verb).is_err(), "{verb} without -f");
        parse(&format!("{verb} -f x -o json")).unwrap();
    }
    parse("drift").unwrap();
    parse("apply").unwrap();
}

#[test]
fn a_stop_waits_no_longer_than_clocks_reach() {
    parse("stop -t 31536000 web").unwrap();
    assert!(parse("stop -t 18446744073709551615 web").is_err());
}

#[test]
fn times_of_logs() {
    parse("logs web --since 10m").unwrap();
    parse("logs web --since 2026-03-01T12:00:00Z -n 5 -f -t").unwrap();
    let error = parse("logs web --since yesterday").unwrap_err().to_string();
    assert!(error.contains("write a time as"), "{error}");
}

#[test]
fn errors_are_told_in_one_style() {
    let directory = tempfile::tempdir().unwrap();
    let paths = evenkeel_host::Paths::new(directory.path(), directory.path());
    let _first = crate::lock::RootLock::acquire(&paths, "run").unwrap();
    let failure = Failure::from(crate::lock::RootLock::acquire(&paths, "apply").unwrap_err());
    let text = failure.render(Style::PLAIN);
    let wanted = format!(
        "error: {} is in use by `evenkeel run`, process {}\nhint: the agent keeps this root; \
         `evenkeel apply` asks it, `evenkeel status` shows what it does\n",
        directory.path().display(),
        std::process::id()
    );
    assert_eq!(text, wanted);
}

#[test]
fn causes_stand_on_the_same_line() {
    let failure = existing(Path::new("/nonexistent/manifests")).unwrap_err();
    assert_eq!(
        failure.render(Style::PLAIN),
        "error: cannot read the manifests at /nonexistent/manifests: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_bare_name_finds_the_only_object_that_has_it() {
    let known: Vec<evenkeel_schema::Key> =
        ["container/web", "image/web", "network/mynet"].iter().map(|key| key.parse().unwrap()).collect();
    assert_eq!(names::object("mynet", &known).unwrap().to_string(), "network/mynet");
    assert_eq!(names::object("image/web", &known).unwrap().to_string(), "image/web");
    let said = |text: &str| names::object(text, &known).unwrap_err().render(Style::PLAIN);
    assert_eq!(said("web"), "error: `web` means several objects\nhint: write container/web or image/web\n");
    assert_eq!(said("mynte"), "error: there is no object `mynte`\nhint: did you mean network/mynet?\n");
    assert_eq!(names::container("container/web").unwrap().as_str(), "web");
    assert!(names::container("network/web").is_err());
}
