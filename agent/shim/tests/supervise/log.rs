use std::fs;

use evenkeel_shim::Stream;

use crate::container::Container;

#[test]
fn everything_written_is_in_the_log_by_stream_with_the_last_line_of_a_short_life() {
    let mut container = Container::new("seq 20000; echo oops >&2; printf 'no end'");
    container.start();
    container.wait_for_exit();
    let log = container.log();
    let of = |stream| log.iter().filter(|line| line.stream == stream).map(|line| &*line.log).collect::<String>();
    let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    assert!(of(Stream::Stdout) == expected + "no end");
    assert_eq!(of(Stream::Stderr), "oops\n");
    assert!(log.is_sorted_by_key(|line| &line.time));
    assert!(log.iter().all(|line| line.time.len() == "2024-01-01T00:00:00.000000000Z".len()));
}

#[test]
fn a_flood_stays_below_the_cap() {
    let mut container = Container::new("seq 100000; echo last");
    container.config.log.max_size = 100_000;
    container.config.log.max_files = 3;
    container.start();
    container.wait_for_exit();
    container.wait_for_line("last");
    let mut sizes = Vec::new();
    for entry in fs::read_dir(container.path("")).unwrap().map(Result::unwrap) {
        if entry.file_name().to_str().unwrap().starts_with("log") {
            sizes.push(entry.metadata().unwrap().len());
        }
    }
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size <= 100_000), "{sizes:?}");
}
