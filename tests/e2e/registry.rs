//! Images from a registry, from the manifest to the running container.

use evenkeel_tests::images::{Image, Packing, layer, write_layout};
use evenkeel_tests::registry::{Options, Registry};
use evenkeel_tests::{Sandbox, ask, program, sandboxed};

use crate::story;

/// A web server on the bridge network, from an image that is named by its reference alone.
fn server(image: &str) -> String {
    story::front("8080").replace("image: busybox", &format!("image: {image}"))
}

/// Puts an image whose page says `text` into a registry and gives its digest.
fn push(sandbox: &Sandbox, registry: &Registry, text: &str, packing: Packing) -> String {
    let directory = sandbox.directory().join(format!("layout-{text}"));
    let image = Image::busybox(vec![layer(&[("www/index.html", text)])]).packed(packing);
    let written = write_layout(&directory, &image);
    registry.push(&format!("oci:{}:latest", directory.display()), "site:1", &[]);
    written.manifest.to_string()
}

#[test]
fn a_reference_is_pulled_and_run() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        push(sandbox, &registry, "pulled", Packing::Gzip);
        sandbox.manifest("shop.yaml", story::SHOP);
        sandbox.manifest("front.yaml", &server(&registry.reference("site:1")));
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "pulled");
        // The store has it: the registry is not needed any more.
        drop(registry);
        story::in_sync(sandbox);
    });
}

/// As on a minimal Debian: one clear error, not a panic of the library's.
#[test]
fn a_host_that_trusts_no_authority_is_told_so() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        push(sandbox, &registry, "pulled", Packing::Gzip);
        let source = format!("reference: \"{}\", insecure: true", registry.reference("site:1"));
        sandbox.manifest("image.yaml", &story::image("site", &source));
        let manifests = sandbox.manifests();
        let mut command = sandbox.command(&["apply", "-f", manifests.to_str().expect("a path in UTF-8")]);
        command.env("SSL_CERT_FILE", "/nonexistent").env("SSL_CERT_DIR", "/nonexistent");
        let run = program::run(&mut command).expect_code(1).says("install ca-certificates");
        assert!(!run.stderr.contains("this is a bug"), "{run}");
        sandbox.apply();
    });
}

#[test]
fn a_moved_tag_is_a_new_image_where_the_manifest_asks_for_it() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        push(sandbox, &registry, "one", Packing::Zstd);
        sandbox.manifest("shop.yaml", story::SHOP);
        sandbox.manifest("front.yaml", &server("site"));
        let source = format!("reference: \"{}\", pull: always", registry.reference("site:1"));
        sandbox.manifest("image.yaml", &story::image("site", &source));
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "one");
        push(sandbox, &registry, "two", Packing::Zstd);
        sandbox.verb_on_manifests("diff", &[]).expect_code(1).says("image/site");
        sandbox.apply();
        assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "two");
        story::in_sync(sandbox);
    });
}

#[test]
fn a_pinned_digest_is_kept_to() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        let first = push(sandbox, &registry, "one", Packing::Gzip);
        push(sandbox, &registry, "two", Packing::Gzip);
        sandbox.manifest("shop.yaml", story::SHOP);
        sandbox.manifest("front.yaml", &server("site"));
        let image = |more: &str| story::image("site", &format!("reference: \"{}{more}", registry.reference("site")));
        // The tag has moved on; what is pinned is what comes, written either way.
        for more in [format!(":1\", digest: \"{first}\""), format!("@{first}\"")] {
            sandbox.manifest("image.yaml", &image(&more));
            sandbox.apply();
            assert_eq!(ask::page(None, "http://127.0.0.1:8080/"), "one", "{more}");
            story::in_sync(sandbox);
        }
    });
}

#[test]
fn an_image_that_is_not_there_is_told_with_its_reference() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        let reference = registry.reference("nothing:9");
        sandbox.manifest("shop.yaml", story::SHOP);
        sandbox.manifest("front.yaml", &server(&reference));
        let run = sandbox.verb_on_manifests("apply", &[]).expect_code(1);
        assert!(run.to_string().contains(&reference) && run.to_string().contains("container/front"), "{run}");
    });
}
