use std::io::Write;

use super::*;

fn disk() -> Disk {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(&[b'.'; 4 * BLOCK]).expect("an image");
    Disk::new(file.path())
}

fn at(disk: &Disk, offset: u64) -> u8 {
    let mut byte = [0];
    disk.read(&mut byte, offset).expect("a byte");
    byte[0]
}

#[test]
fn writes_are_read_again_across_blocks() {
    let disk = disk();
    disk.write(&[b'x'; 5000], 4000).expect("a write");
    let edges = [3999, 4000, 4095, 4096, 8191, 8192, 8999, 9000].map(|offset| at(&disk, offset));
    assert_eq!(&edges, b".xxxxxx.");
}

#[test]
fn a_cut_loses_only_what_was_not_flushed() {
    let mut lost = 0;
    let mut kept = 0;
    for seed in 0..100 {
        let disk = disk();
        disk.write(b"1", 0).expect("a write");
        disk.flush();
        disk.write(b"2", 0).expect("a write");
        disk.write(b"2", 4096).expect("a write");
        let cut = disk.cut(&mut Random::new(seed));
        let after = (at(&disk, 0), at(&disk, 4096));
        assert_eq!(cut.lost, usize::from(after.0 == b'1') + usize::from(after.1 == b'.'));
        assert!(matches!(after.0, b'1' | b'2') && matches!(after.1, b'.' | b'2'), "{after:?}");
        lost += cut.lost;
        kept += cut.kept;
    }
    assert!(lost > 20 && kept > 20, "{lost} lost, {kept} kept");
}
