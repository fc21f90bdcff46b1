use super::*;

#[test]
fn escapes_and_optional_fields_are_understood() {
    let line =
        br"36 35 98:0 /mnt1\040x /mnt2\134y\011z rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue";
    let table = MountTable::parse(line);
    let mount = table.iter().next().unwrap();
    assert_eq!(mount.root, Path::new("/mnt1 x"));
    assert_eq!(mount.mount_point, Path::new("/mnt2\\y\tz"));
    assert_eq!((mount.fs_type.as_str(), mount.source.as_str()), ("ext3", "/dev/root"));
    assert_eq!((mount.options.as_str(), mount.super_options.as_str()), ("rw,noatime", "rw,errors=continue"));
}

#[test]
fn the_last_mount_on_a_place_is_the_one_that_is_seen() {
    let table = MountTable::parse(b"1 0 0:1 / /x rw - tmpfs a rw\n2 1 0:2 / /x rw - tmpfs b rw\nnonsense\n");
    assert_eq!(table.at(Path::new("/x")).map(|mount| mount.source.as_str()), Some("b"));
    assert_eq!(table.at(Path::new("/y")), None);
}

#[test]
fn this_process_has_a_root() {
    assert!(MountTable::of_self().unwrap().at(Path::new("/")).is_some());
}
