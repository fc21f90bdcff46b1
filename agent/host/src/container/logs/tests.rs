use std::fs::{self, OpenOptions};
use std::io::Write;

use time::macros::datetime;

use super::*;

fn line(number: usize) -> String {
    let stream = if number.is_multiple_of(3) { Stream::Stderr } else { Stream::Stdout };
    let time = format!("2024-05-06T07:{:02}:{:02}.000000000Z", number / 60, number % 60);
    let line = LogLine { log: format!("line {number}\n"), stream, time };
    serde_json::to_string(&line).unwrap() + "\n"
}

/// Lines 0 to 29 over three files.
fn rotated(directory: &Path) -> PathBuf {
    let path = directory.join("log");
    for (name, numbers) in [("log.2", 0..10), ("log.1", 10..20), ("log", 20..30)] {
        fs::write(directory.join(name), numbers.map(line).collect::<String>()).unwrap();
    }
    path
}

fn numbers(path: &Path, query: &LogQuery) -> Vec<usize> {
    read(path, query).unwrap().map(|line| number(&line.unwrap())).collect()
}

fn number(line: &LogLine) -> usize {
    line.log.trim().strip_prefix("line ").unwrap().parse().unwrap()
}

#[test]
fn all_files_are_one_log_oldest_line_first() {
    let directory = tempfile::tempdir().unwrap();
    let path = rotated(directory.path());
    assert_eq!(numbers(&path, &LogQuery::default()), (0..30).collect::<Vec<_>>());
    assert_eq!(numbers(&directory.path().join("none"), &LogQuery::default()), Vec::<usize>::new());
}

#[test]
fn the_tail_crosses_files_and_counts_only_what_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let path = rotated(directory.path());
    for tail in [0, 1, 9, 10, 11, 25, 30, 99] {
        let query = LogQuery { tail: Some(tail), ..LogQuery::default() };
        assert_eq!(numbers(&path, &query), (30_usize.saturating_sub(tail)..30).collect::<Vec<_>>(), "tail {tail}");
    }
    let errors = LogQuery { tail: Some(5), stdout: false, ..LogQuery::default() };
    assert_eq!(numbers(&path, &errors), [15, 18, 21, 24, 27]);
}

#[test]
fn since_and_stream_choose_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = rotated(directory.path());
    let since = Some(datetime!(2024-05-06 09:00:18 +2));
    let query = LogQuery { since, stderr: false, ..LogQuery::default() };
    assert_eq!(numbers(&path, &query), [19, 20, 22, 23, 25, 26, 28, 29]);
}

#[test]
fn a_long_tail_is_found_over_many_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, (0..3600).map(line).collect::<String>()).unwrap();
    assert!(fs::metadata(&path).unwrap().len() > 3 * BLOCK as u64);
    let query = LogQuery { tail: Some(3000), ..LogQuery::default() };
    assert_eq!(numbers(&path, &query), (600..3600).collect::<Vec<_>>());
}

#[test]
fn half_a_line_is_no_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, format!("{}{{\"log\":\"ha\n{}{{\"log\":", line(1), line(2))).unwrap();
    assert_eq!(numbers(&path, &LogQuery::default()), [1, 2]);
    assert_eq!(numbers(&path, &LogQuery { tail: Some(1), ..LogQuery::default() }), [2]);
}

#[tokio::test]
async fn following_crosses_turns_and_waits_for_whole_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let append = |text: &str| {
        let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    let mut reader = read(&path, &LogQuery::default()).unwrap();

    append(&line(1));
    assert_eq!(number(&reader.follow().await.unwrap()), 1);

    let (first_half, second_half) = (line(2)[..20].to_owned(), line(2)[20..].to_owned());
    append(&first_half);
    assert!(tokio::time::timeout(POLL * 2, reader.follow()).await.is_err());
    append(&second_half);
    assert_eq!(number(&reader.follow().await.unwrap()), 2);

    // Turned over twice while nobody looks, with something written before and between.
    append(&line(3));
    fs::rename(&path, directory.path().join("log.1")).unwrap();
    append(&line(4));
    fs::rename(directory.path().join("log.1"), directory.path().join("log.2")).unwrap();
    fs::rename(&path, directory.path().join("log.1")).unwrap();
    append(&line(5));
    for expected in [3, 4, 5] {
        assert_eq!(number(&reader.follow().await.unwrap()), expected);
    }

    // One file only from now on: the old ones are removed.
    for name in ["log", "log.1", "log.2"] {
        fs::remove_file(directory.path().join(name)).unwrap();
    }
    append(&line(6));
    assert_eq!(number(&reader.follow().await.unwrap()), 6);

    // Emptied in place by somebody else.
    fs::write(&path, "").unwrap();
    assert!(tokio::time::timeout(POLL * 2, reader.follow()).await.is_err());
    append(&line(7));
    assert_eq!(number(&reader.follow().await.unwrap()), 7);
}
