use std::fs;

use super::*;

const ONE: &str = "1111111222222233333334444444555555566666";
const TWO: &str = "aaaaaaabbbbbbbcccccccdddddddeeeeeeefffff";

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn the_commit_is_read_from_a_checkout_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let manifests = root.join("checkout/deep/manifests");
    fs::create_dir_all(&manifests).unwrap();
    let git = root.join("checkout/.git");

    write(&git.join("HEAD"), &format!("{ONE}\n"));
    assert_eq!(revision(&manifests, &[]), "1111111");

    write(&git.join("HEAD"), "ref: refs/heads/main\n");
    write(&git.join("packed-refs"), &format!("# pack-refs with: peeled\n{ONE} refs/heads/main\n^{TWO}\n"));
    assert_eq!(revision(&manifests, &[]), "1111111");

    write(&git.join("refs/heads/main"), &format!("{TWO}\n"));
    assert_eq!(revision(&manifests, &[]), "aaaaaaa");

    // A linked work tree: `.git` is a file, and branches lie in the common directory.
    let linked = root.join("linked/manifests");
    fs::create_dir_all(&linked).unwrap();
    write(&root.join("linked/.git"), "gitdir: ../checkout/.git/worktrees/linked\n");
    write(&git.join("worktrees/linked/HEAD"), "ref: refs/heads/main\n");
    write(&git.join("worktrees/linked/commondir"), "../..\n");
    assert_eq!(revision(&linked, &[]), "aaaaaaa");
}

#[test]
fn without_a_commit_the_content_names_the_revision() {
    let directory = tempfile::tempdir().unwrap();
    let file = |text: &str| SourceFile::new("a.yaml".into(), "a.yaml".into(), "/".into(), text.to_owned());
    let one = revision(directory.path(), &[file("x")]);
    assert_eq!(one.len(), 7);
    assert_eq!(one, revision(directory.path(), &[file("x")]));
    assert_ne!(one, revision(directory.path(), &[file("y")]));
    // A branch without a commit.
    write(&directory.path().join(".git/HEAD"), "ref: refs/heads/main\n");
    assert_eq!(one, revision(directory.path(), &[file("x")]));
}
