use std::io::{Cursor, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::frames::window;
use super::*;

fn text(length: usize) -> Vec<u8> {
    (0..length / 8).flat_map(|n: usize| (n.wrapping_mul(0x9e37_79b9) as u64).to_le_bytes()).collect()
}

/// One frame with a window of so many bits, its length stated or not.
fn frame(bytes: &[u8], window_log: u32, stated: bool) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.set_pledged_src_size(stated.then_some(bytes.len() as u64)).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn skippable(bytes: &[u8]) -> Vec<u8> {
    [&[0x5a, 0x2a, 0x4d, 0x18][..], &(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

fn read(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    decompress(Cursor::new(packed))?.1.read_to_end(&mut plain)?;
    Ok(plain)
}

#[test]
fn windows_are_read_from_every_form_of_header() {
    for log in [10, 17, 21, 23, 27] {
        assert_eq!(window(&frame(&text(1 << 16), log, false)), Some(1 << log), "{log}");
    }
    // What a frame holds is all that can be referred to.
    for length in [8, 248, 256, 512, 65_792, 70_000] {
        assert_eq!(window(&frame(&text(length), 27, true)), Some(length as u64), "{length}");
    }
    assert_eq!(window(&frame(&text(1 << 20), 17, true)), Some(1 << 17));
    assert_eq!(window(&skippable(b"index")), None);
    // A window of an eighth more, behind the identifier of a dictionary; cut off before its end.
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x02, 0x39, 7, 0];
    assert_eq!(window(&header), Some((1 << 17) + (1 << 14)));
    assert_eq!(window(&header[..7]), None);
}

#[test]
fn frames_that_follow_one_another_are_one_stream() {
    let (small, large) = (text(100), text(3 << 20));
    let parts = [
        skippable(b""),
        frame(&small, 10, true),
        frame(&large, 21, false),
        skippable(&[7; 300]),
        frame(b"", 10, true),
        frame(&large, 17, true),
        frame(&small, 23, false),
    ];
    let packed = parts.concat();
    let wanted = [&small[..], &large, &large, &small].concat();
    assert!(read(&packed).unwrap() == wanted);
    // However few bytes come at a time.
    struct Slow<R>(R);
    impl<R: Read> Read for Slow<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let room = buffer.len().min(3);
            self.0.read(&mut buffer[..room])
        }
    }
    let mut plain = Vec::new();
    decompress(Slow(Cursor::new(&packed))).unwrap().1.read_to_end(&mut plain).unwrap();
    assert!(plain == wanted);
}

#[test]
fn what_is_no_whole_frame_is_an_error() {
    let whole = frame(&text(1 << 20), 20, false);
    for length in [4, 5, 9, 17, 1000, whole.len() - 1] {
        let error = read(&whole[..length]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}: {error}");
    }
    assert!(read(&[&whole[..], b"and something that is no frame"].concat()).is_err());
    assert_eq!(
        read(&frame(b"x", 28, false)).unwrap_err().to_string(),
        "a frame needs a window of 256 MiB, more than the 128 MiB that are held in memory at most"
    );
}

/// The whole point: what is held at a time stays within the bounds, and nobody waits for ever.
#[test]
fn windows_are_held_within_the_bounds_and_everybody_has_a_turn() {
    let windows = Windows::new(32);
    let (held, most, alone) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (windows, held, most, alone) = (&windows, &held, &most, &alone);
            scope.spawn(move || {
                for turn in 0..50 {
                    let bytes = [2, 8, 16, 32, 128][(thread + turn) % 5];
                    let share = windows.take(bytes as u64, || Ok(())).unwrap();
                    let before = held.fetch_add(bytes, Ordering::SeqCst);
                    most.fetch_max(before + bytes, Ordering::SeqCst);
                    if bytes == 128 {
                        alone.fetch_add(usize::from(before == 0), Ordering::SeqCst);
                    }
                    std::thread::yield_now();
                    held.fetch_sub(bytes, Ordering::SeqCst);
                    drop(share);
                }
            });
        }
    });
    assert_eq!(most.into_inner(), 128, "the largest alone");
    assert_eq!(alone.into_inner(), 80);
}

#[test]
fn whoever_waits_can_give_up_and_is_in_nobodys_way() {
    let windows = Windows::new(32);
    let first = windows.take(20, || Ok(())).unwrap();
    std::thread::scope(|scope| {
        let given_up = scope.spawn(|| windows.take(32, || Err(io::Error::other("not wanted any more"))).unwrap_err());
        assert_eq!(given_up.join().unwrap().to_string(), "not wanted any more");
        // It would be served before others else.
        let (sender, receiver) = std::sync::mpsc::channel();
        let windows = &windows;
        scope.spawn(move || {
            windows.take(12, || Ok(())).unwrap();
            sender.send(()).unwrap();
        });
        receiver.recv_timeout(Duration::from_secs(60)).expect("what there is room for");
    });
    drop(first);
    windows.take(32, || Ok(())).unwrap();
}
