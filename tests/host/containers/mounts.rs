//! Volumes, bind mounts, owners shown as others, file systems in memory.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use evenkeel_host::error_chain;

use super::{Site, built_in_runtime, name, on_site, shell, spec, with_both_runtimes};

with_both_runtimes![
    a_volume_keeps_what_is_written,
    an_empty_volume_gets_the_images_content,
    an_emptied_volume_stays_empty_for_its_container,
    a_bind_mount_is_the_hosts_directory,
    a_missing_source_is_named,
    owners_are_shown_as_others,
    a_tmpfs_has_size_and_mode,
    targets_behind_links_are_seen,
    a_link_leads_out_of_no_container,
    a_link_to_nothing_yet_is_followed,
];

fn volume(site: &Site, volume: &str) -> std::path::PathBuf {
    let path = site.sandbox.paths().volume(&name(volume));
    fs::create_dir_all(&path).expect("the volume's directory");
    path
}

fn a_volume_keeps_what_is_written(site: &Site) {
    let data = volume(site, "data");
    let yaml =
        format!("{}mounts: [{{volume: data, target: /data/inner}}]\n", shell("echo x >/data/inner/file; echo done"));
    site.run("web", &yaml);
    site.log_with("web", "done");
    assert_eq!(fs::read_to_string(data.join("file")).expect("the file"), "x\n");
    assert!(site.observe("web").process.expect("a process").mount_points.contains("/data/inner"));
    site.remove("web");
    assert_eq!(fs::read_to_string(data.join("file")).expect("the file outlasts the container"), "x\n");
}

fn an_empty_volume_gets_the_images_content(site: &Site) {
    let page = site.lower.join("www/index.html");
    chown(&page, Some(1000), Some(1000)).expect("chown");
    std::os::unix::fs::symlink("index.html", site.lower.join("www/link")).expect("a link");
    fs::create_dir(site.lower.join("www/empty")).expect("a directory");
    let www = volume(site, "www");
    chown(&www, Some(7), Some(8)).expect("chown");
    let yaml = format!("{}mounts: [{{volume: www, target: /www}}]\n", shell("cat /www/link; echo done"));
    site.run("web", &yaml);
    assert_eq!(site.log_with("web", "done"), "hello\ndone\n");
    let copied = fs::metadata(www.join("index.html")).expect("the page");
    assert_eq!((copied.uid(), copied.gid()), (1000, 1000));
    assert!(www.join("empty").is_dir());
    let top = fs::metadata(&www).expect("the volume");
    assert_eq!((top.uid(), top.gid()), (7, 8), "the volume's own owner is its manifest's");
    // A volume that is in use is never filled again.
    site.remove("web");
    fs::remove_file(www.join("link")).expect("the link");
    fs::write(www.join("index.html"), "changed\n").expect("a write");
    site.create("web", &spec(&yaml)).expect("create");
    assert_eq!(fs::read_to_string(www.join("index.html")).expect("the page"), "changed\n");
    assert!(!www.join("link").exists());
    let beside = fs::read_dir(www.parent().expect("a directory")).expect("the volumes").count();
    assert_eq!(beside, 1, "nothing of the copying stays");
}

fn an_emptied_volume_stays_empty_for_its_container(site: &Site) {
    let www = volume(site, "www");
    let yaml = format!("{}mounts: [{{volume: www, target: /www}}]\n", shell("rm /www/*; echo done"));
    site.run("web", &yaml);
    site.log_with("web", "done");
    let content = || fs::read_dir(&www).expect("the volume").count();
    assert_eq!(content(), 0);
    site.update("web", &spec(&yaml), &std::sync::Arc::default()).expect("update");
    site.create("web", &spec(&yaml)).expect("create while it runs");
    assert_eq!(content(), 0, "nothing comes back under a container that runs");
    site.remove("web");
    site.create("web", &spec(&yaml)).expect("create");
    assert_ne!(content(), 0, "another container gets an empty volume");
}

fn a_bind_mount_is_the_hosts_directory(site: &Site) {
    let conf = site.sandbox.directory().join("conf");
    fs::create_dir_all(conf.join("below")).expect("a directory");
    fs::write(conf.join("file"), "from the host\n").expect("a file");
    evenkeel_tests::program::sh(&format!("mount -t tmpfs none {}", conf.join("below").display()));
    let yaml = format!(
        "{}mounts:\n- {{bind: {dir}, target: /etc/conf, readOnly: true}}\n- {{bind: {dir}/file, target: /etc/one}}\n",
        shell(
            "cat /etc/conf/file /etc/one; touch /etc/conf/x || echo read-only; \
             touch /etc/conf/below/x || echo read-only below; echo more >>/etc/one; echo done"
        ),
        dir = conf.display()
    );
    site.run("web", &yaml);
    let log = site.log_with("web", "done");
    assert!(log.starts_with("from the host\nfrom the host\n"), "{log}");
    assert!(log.contains("read-only\n") && log.contains("read-only below\n"), "{log}");
    assert_eq!(fs::read_to_string(conf.join("file")).expect("the file"), "from the host\nmore\n");
    site.remove("web");
    evenkeel_tests::program::sh(&format!("umount {}", conf.join("below").display()));
    assert!(conf.join("file").exists(), "removal stops at mounts");
}

fn a_missing_source_is_named(site: &Site) {
    let yaml = "command: [sleep, '1000']\nmounts: [{bind: /nowhere/at/all, target: /x}]\n";
    let error = site.create("web", &spec(yaml)).expect_err("no source");
    assert_eq!(error_chain(&error), "container web: mount /x: /nowhere/at/all does not exist on the host");
    assert!(!fs::exists("/nowhere").expect("a look"), "nothing is made in its place");
    let yaml = "command: [sleep, '1000']\nmounts: [{volume: none, target: /x}]\n";
    let error = error_chain(&site.create("web", &spec(yaml)).expect_err("no volume"));
    assert!(error.starts_with("container web: mount /x: the directory of volume none does not exist"), "{error}");
}

fn owners_are_shown_as_others(site: &Site) {
    let shared = site.sandbox.directory().join("shared");
    fs::create_dir(&shared).expect("a directory");
    for (file, owner) in [("hers", 1234), ("roots", 0), ("other", 77)] {
        fs::write(shared.join(file), "").expect("a file");
        chown(shared.join(file), Some(owner), Some(owner)).expect("chown");
    }
    chown(&shared, Some(1234), Some(1234)).expect("chown");
    let yaml = format!(
        "{}user: web\nmounts: [{{bind: {}, target: /shared, idmap: {{uid: '1234:1000'}}}}]\n",
        shell("cd /shared; stat -c '%n %u:%g' hers roots other; echo x >new; echo done"),
        shared.display()
    );
    site.run("web", &yaml);
    let log = site.log_with("web", "done");
    assert!(log.contains("hers 1000:1000\nroots 0:0\nother 77:77\n"), "{log}");
    let made = fs::metadata(shared.join("new")).expect("the new file");
    assert_eq!((made.uid(), made.gid()), (1234, 1234));
    // Made again, as after a reboot or for a restart, it is mounted once.
    site.create("web", &spec(&yaml)).expect("create");
    let staged = || {
        let mounts = fs::read_to_string("/proc/mounts").expect("the mounts");
        mounts.lines().filter(|line| line.contains("/web/mounts/")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = staged();
    assert_eq!(before.len(), 1, "{before:?}");
    // Another map is another mount.
    site.create("web", &spec(&yaml.replace("1234:1000", "1234:2000"))).expect("create");
    let after = staged();
    assert!(after.len() == 1 && after != before, "{after:?}");
    site.remove("web");
    assert!(shared.join("hers").exists(), "removal stops at mounts");
}

fn a_tmpfs_has_size_and_mode(site: &Site) {
    let yaml = format!(
        "{}mounts: [{{tmpfs: true, target: /scratch, size: 1Mi, mode: '0750'}}, {{tmpfs: true, target: /dev/shm, size: 2Mi}}]\n",
        shell(
            "stat -c %a /scratch /dev/shm; grep -E ' /scratch | /dev/shm ' /proc/mounts; \
             dd if=/dev/zero of=/scratch/big bs=64k count=32 2>/dev/null || echo full; echo done"
        )
    );
    site.run("web", &yaml);
    let log = site.log_with("web", "done");
    assert!(log.starts_with("750\n1777\n"), "{log}");
    assert!(log.contains("full\n"), "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("tmpfs") || line.starts_with("shm")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines.iter().all(|line| line.contains("nosuid") && line.contains("nodev")), "{log}");
    assert!(lines.iter().any(|line| line.contains("/dev/shm") && line.contains("size=2048k")), "{log}");
}

fn targets_behind_links_are_seen(site: &Site) {
    std::os::unix::fs::symlink("/run", site.lower.join("var/run")).expect("a link");
    let data = volume(site, "data");
    fs::write(data.join("file"), "").expect("a file");
    let yaml = format!("{}mounts: [{{volume: data, target: /var/run/data}}]\n", shell("ls /run/data; echo done"));
    site.run("web", &yaml);
    assert_eq!(site.log_with("web", "done"), "file\ndone\n");
    let points = site.observe("web").process.expect("a process").mount_points;
    assert!(points.contains("/run/data") && points.contains("/var/run/data"), "{points:?}");
}

fn a_link_leads_out_of_no_container(site: &Site) {
    let outside = site.sandbox.directory().join("outside");
    fs::create_dir(&outside).expect("a directory");
    let (up, absolute) = (format!("{}{}", "../".repeat(30), outside.display()), outside.display().to_string());
    for (link, target) in [("up", up.as_str()), ("absolute", &absolute)] {
        std::os::unix::fs::symlink(target, site.lower.join(link)).expect("a link");
    }
    let data = volume(site, "data");
    fs::write(data.join("file"), "").expect("a file");
    let mounts = ["up/a", "absolute/b"].map(|target| format!("{{volume: data, target: /{target}}}"));
    let line = format!("ls {outside}/a {outside}/b; echo done", outside = outside.display());
    site.run("web", &format!("{}mounts: [{}]\n", shell(&line), mounts.join(", ")));
    assert_eq!(site.log_with("web", "done").matches("file\n").count(), 2);
    assert_eq!(fs::read_dir(&outside).expect("the directory").count(), 0, "nothing of it is made on the host");
    let mounted = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    assert!(!mounted.contains(&absolute), "{mounted}");
}

/// As `/etc/resolv.conf` is in images of distributions with systemd.
fn a_link_to_nothing_yet_is_followed(site: &Site) {
    let etc = site.lower.join("etc");
    std::os::unix::fs::symlink("../run/systemd/resolve/stub-resolv.conf", etc.join("resolv.conf")).expect("a link");
    site.run("web", &format!("{}dns: {{servers: [192.0.2.53]}}\n", shell("cat /run/systemd/resolve/*; echo done")));
    assert_eq!(site.log_with("web", "done"), "nameserver 192.0.2.53\ndone\n");
}

#[test]
fn an_image_whose_proc_is_a_link_is_refused() {
    on_site(built_in_runtime(), |site| {
        let proc = site.lower.join("proc");
        // Hidden paths would be hidden somewhere else.
        let _ = fs::remove_dir(&proc);
        std::os::unix::fs::symlink("/tmp", &proc).expect("a link");
        site.create("web", &spec(&shell("true"))).expect("create");
        let error = site.wait(site.containers.start(&name("web"))).expect_err("no /proc of its own");
        let words = error_chain(&error);
        assert!(words.contains("mount /proc: Too many levels of symbolic links"), "{words}");
    });
}
