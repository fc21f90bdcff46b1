use super::*;

fn names(lines: &[(&str, &[&str])]) -> HostNames {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    lines.iter().map(|(address, names)| (address.parse().unwrap(), owned(names))).collect()
}

#[test]
fn a_hosts_file_is_read_back_as_it_was_written() {
    let lines = names(&[("10.0.0.2", &["web", "www"]), ("fd00::2", &["web"])]);
    let text = hosts(&lines, None);
    assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
    assert!(text.contains("\n10.0.0.2\tweb www\n"));
    assert_eq!(parse_hosts(&text), lines);
}

#[test]
fn the_hosts_own_lines_are_kept_apart() {
    let lines = names(&[("10.0.0.2", &["web"])]);
    let text = hosts(&lines, Some("192.0.2.1 router\n"));
    assert!(text.ends_with("192.0.2.1 router\n"));
    assert_eq!(parse_hosts(&text), lines);
}

#[test]
fn what_someone_else_wrote_is_seen() {
    let text = hosts(&names(&[("10.0.0.2", &["web"])]), None) + "10.9.9.9 intruder # why\n127.0.0.1 evil\nnonsense x\n";
    let seen = parse_hosts(&text);
    assert_eq!(seen, names(&[("10.0.0.2", &["web"]), ("10.9.9.9", &["intruder"]), ("127.0.0.1", &["evil"])]));
}

#[test]
fn loopback_servers_are_left_out_in_an_own_network_only() {
    let host = "# comment\nnameserver 127.0.0.53\nnameserver 192.0.2.1 # isp\nsearch a.example b.example\noptions edns0 trust-ad\n";
    let none = Dns::default();
    assert_eq!(
        resolv_conf(&none, host, true),
        "nameserver 192.0.2.1\nsearch a.example b.example\noptions edns0 trust-ad\n"
    );
    assert!(resolv_conf(&none, host, false).starts_with("nameserver 127.0.0.53\n"));
}

#[test]
fn what_the_manifest_states_stands_for_the_hosts() {
    let dns = Dns {
        servers: vec!["192.0.2.7".parse().unwrap(), "::1".parse().unwrap()],
        search: vec!["c.example".to_owned()],
        ..Dns::default()
    };
    let text = resolv_conf(&dns, "nameserver 192.0.2.1\nsearch a.example\noptions ndots:2\n", true);
    assert_eq!(text, "nameserver 192.0.2.7\nnameserver ::1\nsearch c.example\noptions ndots:2\n");
}

#[test]
fn a_file_is_changed_in_place() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hosts");
    write_in_place(&path, "a longer text\n").unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    write_in_place(&path, "short\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "short\n");
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}
