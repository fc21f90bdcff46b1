use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:web:/var/www:/bin/sh\n12:x:77:78::/odd:\n";
const GROUP: &str = "root:x:0:\nwww:x:34:\nssl:x:50:web,root\nadm:x:4:web\n99:x:100:\n";

fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
    let identity = identify(user, PASSWD, GROUP).unwrap();
    (identity.uid, identity.gid, identity.groups, identity.home)
}

#[test]
fn names_are_looked_up_with_their_groups() {
    assert_eq!(ids("web"), (33, 34, vec![34, 50, 4], "/var/www".to_owned()));
    assert_eq!(ids("0"), (0, 0, vec![0, 50], "/root".to_owned()));
    assert_eq!(ids(""), ids("0"));
}

#[test]
fn a_stated_group_is_the_only_one() {
    assert_eq!(ids("web:ssl"), (33, 50, vec![50], "/var/www".to_owned()));
    assert_eq!(ids("web:1234"), (33, 1234, vec![1234], "/var/www".to_owned()));
    assert_eq!(ids(":ssl").0, 0);
}

#[test]
fn numbers_need_no_entry_but_names_do() {
    assert_eq!(ids("4242"), (4242, 0, vec![0], "/".to_owned()));
    assert_eq!(ids("33"), ids("web"));
    // A name of digits comes before the number.
    assert_eq!((ids("12").0, ids("1:99").1), (77, 100));
    assert_eq!(
        identify("nobody", PASSWD, GROUP).unwrap_err().to_string(),
        "user `nobody`: the image's /etc/passwd has no such user"
    );
    assert!(matches!(identify("web:none", PASSWD, GROUP), Err(UserError::NoGroup(name)) if name == "none"));
}

#[test]
fn links_in_the_image_stay_in_the_image() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("rootfs");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::create_dir_all(root.join("real")).unwrap();
    fs::write(directory.path().join("passwd"), "web:x:666:666::/evil:\n").unwrap();
    fs::write(root.join("real/passwd"), PASSWD).unwrap();
    let inside = Inside::open(&root).unwrap();
    symlink("../../passwd", root.join("etc/passwd")).unwrap();
    assert!(matches!(look_up(&inside, Some("web")), Err(UserError::NoUser(_))));
    fs::remove_file(root.join("etc/passwd")).unwrap();
    symlink("/real/passwd", root.join("etc/passwd")).unwrap();
    assert_eq!(look_up(&inside, Some("web")).unwrap().uid, 33);
    assert_eq!(look_up(&inside, None).unwrap().home, "/root");
}
