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
