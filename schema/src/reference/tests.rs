use super::*;

#[test]
fn completes_references_as_docker_does() {
    for (short, full) in [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("grafana/loki", "docker.io/grafana/loki:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
        ("quay.io/a/b@sha256:00", "quay.io/a/b@sha256:00"),
        ("docker.io/library/postgres:16", "docker.io/library/postgres:16"),
        ("docker.io/postgres:16", "docker.io/library/postgres:16"),
        ("index.docker.io/a/b", "docker.io/a/b:latest"),
    ] {
        assert_eq!(full_reference(short), full);
    }
}

#[test]
fn names_of_implicit_images_are_readable_distinct_and_the_same_for_the_same_image() {
    let name = implicit_image_name("nginx:1.27");
    assert!(name.as_str().starts_with("nginx-1.27-"), "{name}");
    assert_eq!(name, implicit_image_name("docker.io/library/nginx:1.27"));
    assert_ne!(name, implicit_image_name("quay.io/library/nginx:1.27"));
    assert_ne!(implicit_image_name("a.io/x@sha256:00"), implicit_image_name("a.io/x@sha256:11"));
    let long = implicit_image_name(&format!("a.io/{}:{}", "x".repeat(200), "_".repeat(100)));
    assert!(long.as_str().len() <= 63, "{long}");
}
