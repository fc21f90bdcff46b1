use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const QUIET: Duration = Duration::from_millis(20);
const MOST: Duration = Duration::from_millis(500);

struct Tree {
    directory: tempfile::TempDir,
    watch: TreeWatch,
}

impl Tree {
    fn new(prepare: impl FnOnce(&Path)) -> Tree {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path().join("manifests");
        fs::create_dir(&root).expect("made");
        prepare(&root);
        Tree { watch: TreeWatch::new(&root).expect("watched"), directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    async fn notices(&mut self) -> bool {
        tokio::time::timeout(Duration::from_secs(5), self.watch.changed(QUIET, MOST)).await.is_ok()
    }

    async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.watch.changed(QUIET, MOST)).await.is_err()
    }
}

#[tokio::test]
async fn notices_an_editor_that_writes_beside_and_renames() {
    let mut tree = Tree::new(|root| fs::write(root.join("a.yaml"), "1").expect("written"));
    fs::write(tree.root().join(".a.yaml.swp"), "2").expect("written");
    fs::rename(tree.root().join(".a.yaml.swp"), tree.root().join("a.yaml")).expect("renamed");
    assert!(tree.notices().await);
}

#[tokio::test]
async fn reading_is_no_change() {
    let mut tree = Tree::new(|root| fs::write(root.join("a.yaml"), "1").expect("written"));
    assert_eq!(fs::read_to_string(tree.root().join("a.yaml")).expect("read"), "1");
    fs::read_dir(tree.root()).expect("listed").for_each(drop);
    assert!(tree.is_quiet().await);
}

#[tokio::test]
async fn follows_new_directories_at_any_depth() {
    let mut tree = Tree::new(|_| {});
    let deep = tree.root().join("a/b/c");
    fs::create_dir_all(&deep).expect("made");
    assert!(tree.notices().await);
    fs::write(deep.join("x.yaml"), "1").expect("written");
    assert!(tree.notices().await);
    fs::write(deep.join("x.yaml"), "2").expect("written");
    assert!(tree.notices().await);
}

#[tokio::test]
async fn follows_a_switched_link_and_writes_behind_it() {
    let mut tree = Tree::new(|root| {
        fs::create_dir(root.join("..1")).expect("made");
        fs::write(root.join("..1/x.yaml"), "1").expect("written");
        symlink("..1", root.join("..data")).expect("linked");
        symlink("..data/x.yaml", root.join("x.yaml")).expect("linked");
    });
    let root = tree.root();
    fs::create_dir(root.join("..2")).expect("made");
    fs::write(root.join("..2/x.yaml"), "2").expect("written");
    symlink("..2", root.join("..data_tmp")).expect("linked");
    fs::rename(root.join("..data_tmp"), root.join("..data")).expect("switched");
    assert!(tree.notices().await);
    fs::write(root.join("..2/x.yaml"), "3").expect("written");
    assert!(tree.notices().await);
}

#[tokio::test]
async fn follows_the_directory_itself_being_replaced() {
    let mut tree = Tree::new(|root| fs::write(root.join("a.yaml"), "1").expect("written"));
    let new = tree.directory.path().join("new");
    fs::create_dir(&new).expect("made");
    fs::write(new.join("a.yaml"), "2").expect("written");
    fs::rename(tree.root(), tree.directory.path().join("old")).expect("renamed");
    fs::rename(&new, tree.root()).expect("renamed");
    assert!(tree.notices().await);
    fs::write(tree.root().join("b.yaml"), "3").expect("written");
    assert!(tree.notices().await);
    fs::remove_dir_all(tree.root()).expect("removed");
    assert!(tree.notices().await);
    fs::create_dir(tree.root()).expect("made again");
    assert!(tree.notices().await);
}

#[tokio::test]
async fn what_else_happens_beside_the_directory_is_no_change() {
    let mut tree = Tree::new(|root| fs::write(root.join("a.yaml"), "1").expect("written"));
    fs::write(tree.directory.path().join("agent.log"), "said").expect("written");
    fs::create_dir(tree.directory.path().join("other")).expect("made");
    assert!(tree.is_quiet().await);
}

#[tokio::test]
async fn follows_a_link_to_a_directory_and_its_switch() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (old, new, root) =
        (directory.path().join("old"), directory.path().join("new"), directory.path().join("current"));
    fs::create_dir(&old).expect("made");
    fs::create_dir(&new).expect("made");
    symlink(&old, &root).expect("linked");
    let watch = TreeWatch::new(&root).expect("watched");
    let mut tree = Tree { directory, watch };
    fs::write(old.join("a.yaml"), "1").expect("written");
    assert!(tree.notices().await);
    symlink(&new, root.with_extension("next")).expect("linked");
    fs::rename(root.with_extension("next"), &root).expect("switched");
    assert!(tree.notices().await);
    fs::write(new.join("b.yaml"), "2").expect("written");
    assert!(tree.notices().await);
}

#[tokio::test]
async fn notices_a_checkout_of_many_files_once() {
    let mut tree = Tree::new(|_| {});
    for number in 0..200 {
        let directory = tree.root().join(format!("d{}", number % 10));
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join(format!("{number}.yaml")), "1").expect("written");
    }
    assert!(tree.notices().await);
    assert!(tree.is_quiet().await, "one storm is one change");
    fs::write(tree.root().join("d7/7.yaml"), "2").expect("written");
    assert!(tree.notices().await);
}
