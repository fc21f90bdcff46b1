use std::fs;
use std::path::Path;

use evenkeel_shim::{LogConfig, LogLine};
use proptest::prelude::*;

use super::*;

const TIME: &str = "2024-05-06T07:08:09.000000001Z";

fn log(directory: &Path, max_size: u64, max_files: u32) -> Log {
    Log::new(LogConfig { path: directory.join("log"), max_size, max_files })
}

fn lines(path: &Path) -> Vec<LogLine> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn texts(path: &Path) -> Vec<String> {
    lines(path).into_iter().map(|line| line.log).collect()
}

#[test]
fn lines_are_put_together_from_pieces_and_streams_do_not_mix() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 1 << 20, 1);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    log.append(Stream::Stdout, &mut out, b"one\ntw", TIME);
    log.append(Stream::Stderr, &mut err, b"E", TIME);
    log.append(Stream::Stdout, &mut out, b"o\n\nthr", TIME);
    log.finish(Stream::Stderr, &mut err, TIME);
    log.finish(Stream::Stdout, &mut out, TIME);
    log.flush();
    let line = |log: &str, stream| LogLine { log: log.into(), stream, time: TIME.into() };
    assert_eq!(
        lines(&directory.path().join("log")),
        [
            line("one\n", Stream::Stdout),
            line("two\n", Stream::Stdout),
            line("\n", Stream::Stdout),
            line("E", Stream::Stderr),
            line("thr", Stream::Stdout)
        ]
    );
}

#[test]
fn a_long_line_is_cut_between_characters_and_stays_whole_together() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 1 << 20, 1);
    let mut partial = Vec::new();
    // One byte before many three-byte characters, so that 16384 falls inside of one.
    let text = format!("x{}\n", "€".repeat(12_000));
    for piece in text.as_bytes().chunks(1000) {
        log.append(Stream::Stdout, &mut partial, piece, TIME);
        assert!(partial.len() <= LONGEST_LINE);
    }
    log.append(Stream::Stdout, &mut partial, &[0x80; LONGEST_LINE + 5], TIME);
    log.finish(Stream::Stdout, &mut partial, TIME);
    log.flush();
    let texts = texts(&directory.path().join("log"));
    let lengths: Vec<_> = texts.iter().map(String::len).collect();
    assert_eq!(lengths[..3], [16_384, 16_383, 36_002 - 16_384 - 16_383]);
    assert_eq!(texts[..3].concat(), text);
    assert_eq!(texts[3].chars().count(), LONGEST_LINE);
    assert_eq!(texts[4], "\u{fffd}".repeat(5));
}

#[test]
fn a_file_never_grows_beyond_its_cap_and_the_oldest_goes() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = log(directory.path(), 1000, 3);
    let mut partial = Vec::new();
    for number in 0..200 {
        log.append(Stream::Stdout, &mut partial, format!("line {number}\nand more\n").as_bytes(), TIME);
        if number % 7 == 0 {
            log.flush();
        }
    }
    log.flush();
    let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    let mut kept = Vec::new();
    for name in ["log.2", "log.1", "log"] {
        let path = directory.path().join(name);
        assert!(fs::metadata(&path).unwrap().len() <= 1000);
        kept.extend(texts(&path));
    }
    let all: Vec<_> = (0..200).flat_map(|number| [format!("line {number}\n"), "and more\n".into()]).collect();
    assert_eq!(kept, all[all.len() - kept.len()..]);

    // Fewer files from now on: what is too many goes with the next turn.
    log.configure(LogConfig { path: directory.path().join("log"), max_size: 500, max_files: 1 });
    for _ in 0..20 {
        log.append(Stream::Stdout, &mut partial, b"more\n", TIME);
    }
    log.flush();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn half_a_line_of_a_killed_shim_does_not_swallow_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "{\"log\":\"ha").unwrap();
    let mut log = log(directory.path(), 1000, 1);
    log.append(Stream::Stdout, &mut Vec::new(), b"next\n", TIME);
    log.flush();
    let text = fs::read_to_string(path).unwrap();
    assert_eq!(serde_json::from_str::<LogLine>(text.lines().nth(1).unwrap()).unwrap().log, "next\n");
}

#[test]
fn a_deleted_file_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let mut log = log(directory.path(), 1000, 2);
    let mut partial = Vec::new();
    log.append(Stream::Stdout, &mut partial, b"one\n", TIME);
    log.flush();
    fs::remove_file(&path).unwrap();
    log.append(Stream::Stdout, &mut partial, b"two\n", TIME);
    log.flush();
    assert_eq!(texts(&path), ["two\n"]);
}

#[test]
fn lines_lost_on_a_full_disk_are_counted_and_the_file_stays_readable() {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("this test needs root, to mount a small tmpfs");
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    let directory = tempfile::tempdir().unwrap();
    mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    let ballast = directory.path().join("ballast");
    fs::write(&ballast, vec![0; 48 * 1024]).unwrap();

    let mut log = log(directory.path(), 1 << 20, 1);
    let mut partial = Vec::new();
    let line = format!("{}\n", "a".repeat(1000));
    for _ in 0..100 {
        log.append(Stream::Stdout, &mut partial, line.as_bytes(), TIME);
        log.flush();
    }
    assert!(log.owes_a_note());
    let written = texts(&directory.path().join("log")).len();
    assert!((1..100).contains(&written));

    fs::remove_file(ballast).unwrap();
    log.append(Stream::Stdout, &mut partial, b"again\n", TIME);
    log.flush();
    assert!(!log.owes_a_note());
    let texts = texts(&directory.path().join("log"));
    let note = format!("[evenkeel: {} lines lost: No space left on device (os error 28)]\n", 100 - written);
    assert_eq!(texts[written..], [note, "again\n".to_owned()]);
    drop(log);
    nix::mount::umount(directory.path()).unwrap();
}

proptest! {
    #[test]
    fn json_is_what_serde_would_write(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0..0x30_u8, Just(b'"'), Just(b'\\'), 0xc0..=0xff_u8], 0..200)) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut written = Vec::new();
            line::write(&mut written, &bytes, stream, TIME);
            let expected = LogLine { log: String::from_utf8_lossy(&bytes).into_owned(), stream, time: TIME.into() };
            prop_assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&expected).unwrap() + "\n");
        }
    }

    #[test]
    fn no_byte_is_lost_however_the_stream_is_split(text in "[a-z\n]{0,300}", at in 1..50_usize) {
        let directory = tempfile::tempdir().unwrap();
        let mut log = log(directory.path(), 1 << 20, 1);
        let mut partial = Vec::new();
        for piece in text.as_bytes().chunks(at) {
            log.append(Stream::Stdout, &mut partial, piece, TIME);
        }
        log.finish(Stream::Stdout, &mut partial, TIME);
        log.flush();
        let expected: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
        let path = directory.path().join("log");
        prop_assert_eq!(if path.exists() { texts(&path) } else { Vec::new() }, expected);
    }
}
