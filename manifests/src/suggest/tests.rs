use super::*;

#[test]
fn the_nearest_word_is_found_where_one_is_near() {
    let fields = ["image", "readOnly", "mounts", "env", "ports"];
    assert_eq!(nearest("read_only", fields), Some("readOnly"));
    assert_eq!(nearest("imgae", fields), Some("image"));
    assert_eq!(nearest("Port", fields), Some("ports"));
    assert_eq!(nearest("replicas", fields), None);
    assert_eq!(nearest("x", fields), None);
    assert_eq!(nearest("", fields), None);
    assert_eq!(nearest("x", []), None);
}

#[test]
fn words_are_listed_as_people_do() {
    assert_eq!(list(&["a"]), "a");
    assert_eq!(list(&["a", "b", "c"]), "a, b or c");
}
