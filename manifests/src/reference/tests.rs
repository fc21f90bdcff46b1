use super::*;

#[test]
fn references_are_completed_and_judged_part_by_part() {
    for (text, full) in [
        ("nginx", "docker.io/library/nginx:latest"),
        ("Quay.IO/a/b", "quay.io/a/b:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("localhost:5000/a/b_c--d:V1.0-x", "localhost:5000/a/b_c--d:V1.0-x"),
    ] {
        assert_eq!(text.parse::<Reference>().unwrap().to_string(), full);
    }
    let digest = format!("sha256:{}", "0a".repeat(32));
    let reference: Reference = format!("a.io/b:1@{digest}").parse().unwrap();
    assert_eq!(reference.digest().unwrap().as_str(), digest);
    assert_eq!(reference.to_string(), format!("a.io/b:1@{digest}"));

    let error = |text: &str| text.parse::<Reference>().unwrap_err();
    assert_eq!(error("a..io/b"), ReferenceError::Registry("a..io".to_owned()));
    assert_eq!(error("a.io:0/b"), ReferenceError::Registry("a.io:0".to_owned()));
    for path in ["a.io/", "a.io//b", "a.io/B", "a.io/a..b", "a.io/-a", "a.io/a___b", "a b/c", "../x"] {
        assert!(matches!(error(path), ReferenceError::Path(_) | ReferenceError::Registry(_)), "{path}");
    }
    assert_eq!(error("a.io/b:"), ReferenceError::Tag(String::new()));
    assert_eq!(error("a.io/b:.x"), ReferenceError::Tag(".x".to_owned()));
    assert_eq!(error("a.io/b@sha256:xyz"), ReferenceError::Digest("sha256:xyz".to_owned()));
}
