//! Pulls from Debian's docker-registry.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use evenkeel_schema::{Digest, ImageSpec, Platform, PullPolicy};
use evenkeel_tests::images::{Image, Packing, layer, write_layout, write_multi_platform_layout};
use evenkeel_tests::registry::{Options, PASSWORD, Registry, USER};
use evenkeel_tests::run;

use super::{Site, on_site, registry_image};

fn oci(directory: &std::path::Path) -> String {
    format!("oci:{}:latest", directory.display())
}

/// Pushes an image of one small file under a tag.
fn push_small(site: &Site, registry: &Registry, tag: &str, text: &str) {
    let directory = site.directory(&format!("layout-{text}"));
    write_layout(&directory, &Image::new(vec![layer(&[("file", text)])]));
    registry.push(&oci(&directory), tag, &[]);
}

/// Asks the registry itself for a manifest's digest.
fn digest_at(registry: &Registry, name: &str) -> Digest {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--tls-verify=false", "--raw"]).arg(format!("docker://{}", registry.reference(name)));
    evenkeel_tests::images::digest(run(&mut command).expect_code(0).stdout.as_bytes())
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a value of its type")
}

#[test]
fn a_real_image_comes_by_tag_and_by_digest() {
    on_site(|site| {
        let registry = Registry::start(Options::default());
        let directory = site.directory("layout");
        let written = write_layout(&directory, &Image::busybox(vec![layer(&[("etc/added", "by the second layer")])]));
        registry.push(&oci(&directory), "busybox:1", &[]);

        let spec = registry_image(&registry.reference("busybox:1"));
        let image = site.fetch("busybox", &spec).expect("the image");
        assert_eq!(image.digest, written.manifest);
        assert_eq!(image.id, written.config);
        assert_eq!(image.layers, written.diff_ids);
        assert_eq!(image.config.cmd, ["/bin/sh"]);
        assert_eq!(image.config.env["PATH"], "/bin:/sbin:/usr/bin:/usr/sbin");
        assert_eq!(site.read(&image, "etc/added"), "by the second layer");
        assert_eq!(site.read(&image, "www/index.html"), "hello\n");
        assert_eq!(site.observe("busybox", &spec), image);

        // What is there is not fetched again, not even asked for.
        let before = registry.log().lines().count();
        assert_eq!(site.fetch("busybox", &spec).expect("the image"), image);
        assert_eq!(registry.log().lines().count(), before);

        let by_digest = registry_image(&format!("{}@{}", registry.reference("busybox"), written.manifest));
        assert_eq!(site.fetch("same", &by_digest).expect("the image").layers, image.layers);
        let pinned = ImageSpec { digest: Some(written.manifest.clone()), ..spec.clone() };
        assert_eq!(site.fetch("pinned", &pinned).expect("the image").digest, written.manifest);
        assert_eq!(site.stored("layers").len(), 2);
        for image in ["busybox", "same", "pinned"] {
            site.remove(image);
        }
        assert!(site.stored("layers").is_empty() && site.stored("images/blobs/sha256").is_empty());
    });
}

#[test]
fn every_manifest_format_and_compression_is_read() {
    on_site(|site| {
        let registry = Registry::start(Options::default());
        let files = layer(&[("file", "content")]);
        for (packing, word) in [(Packing::Gzip, "gzip"), (Packing::Zstd, "zstd"), (Packing::Plain, "plain")] {
            let directory = site.directory(word);
            write_layout(&directory, &Image::new(vec![files.clone()]).packed(packing));
            registry.push(&oci(&directory), &format!("{word}:oci"), &[]);
            let image = site.fetch(word, &registry_image(&registry.reference(&format!("{word}:oci")))).expect(word);
            assert_eq!(site.read(&image, "file"), "content", "{word}");
        }
        registry.push(&oci(&site.path("gzip")), "gzip:docker", &["--format", "v2s2"]);
        let raw = run(Command::new("skopeo")
            .args(["inspect", "--tls-verify=false", "--raw"])
            .arg(format!("docker://{}", registry.reference("gzip:docker"))))
        .expect_code(0);
        assert_eq!(raw.json()["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
        let image = site.fetch("docker", &registry_image(&registry.reference("gzip:docker"))).expect("schema 2");
        assert_eq!(image.digest, evenkeel_tests::images::digest(raw.stdout.as_bytes()));
        assert_eq!(site.read(&image, "file"), "content");
        assert_eq!(site.stored("layers").len(), 1, "one content, one directory");
    });
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    on_site(|site| {
        let registry = Registry::start(Options::default());
        let directory = site.directory("layout");
        let platforms = ["linux/amd64", "linux/arm64/v8", "linux/arm/v7", "linux/arm/v6"];
        let images: Vec<Image> = platforms
            .iter()
            .map(|platform| Image::new(vec![layer(&[("platform", platform)])]).for_platform(platform))
            .collect();
        let (index, _) = write_multi_platform_layout(&directory, &images);
        registry.push(&oci(&directory), "many:1", &["--all"]);
        let here = registry_image(&registry.reference("many:1"));

        let image = site.fetch("here", &here).expect("this machine's");
        assert_eq!(image.digest, index, "what a manifest pins is the index");
        assert!(site.read(&image, "platform").ends_with(if cfg!(target_arch = "aarch64") {
            "arm64/v8"
        } else {
            "amd64"
        }));
        for (wanted, found) in [
            ("linux/arm64", "linux/arm64/v8"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/arm", "linux/arm/v7"),
        ] {
            let platform = Platform::try_from(wanted.to_owned()).expect("a platform");
            let spec = ImageSpec { platform: Some(platform), ..here.clone() };
            let image = site.fetch("other", &spec).expect(wanted);
            assert_eq!(site.read(&image, "platform"), found);
            assert_eq!(image.digest, index);
            assert!(site.observe("other", &spec).damage.is_empty());
        }
        assert!(site.observe("other", &here).damage[0].starts_with("it is the image for linux/arm, not for linux/"));
        let spec =
            ImageSpec { platform: Some(Platform::try_from("linux/s390x".to_owned()).expect("a platform")), ..here };
        let error = site.refused("none", &spec);
        assert!(error.contains("has no image for linux/s390x; it has linux/amd64, linux/arm64/v8"), "{error}");
        let single = site.directory("single");
        write_layout(&single, &Image::new(vec![layer(&[("a", "")])]).for_platform("linux/riscv64"));
        registry.push(&oci(&single), "single:1", &[]);
        let spec = ImageSpec {
            platform: Some(Platform::try_from("linux/amd64".to_owned()).expect("a platform")),
            ..registry_image(&registry.reference("single:1"))
        };
        let error = site.refused("single", &spec);
        assert!(error.contains("is an image for linux/riscv64, not for linux/amd64"), "{error}");
    });
}

#[test]
fn a_moved_tag_is_a_new_image_under_always() {
    on_site(|site| {
        let registry = Registry::start(Options::default());
        push_small(site, &registry, "app:stable", "one");
        let missing = registry_image(&registry.reference("app:stable"));
        let always = ImageSpec { pull: PullPolicy::Always, ..missing.clone() };
        let first = site.fetch("app", &always).expect("the image");
        assert_eq!(site.observe("app", &always).upstream, Some(Ok(first.digest.clone())));
        assert_eq!(site.observe("app", &missing).upstream, None);

        push_small(site, &registry, "app:stable", "two");
        assert_eq!(site.fetch("app", &missing).expect("the image"), first);
        let upstream = digest_at(&registry, "app:stable");
        assert_eq!(site.observe("app", &always).upstream, Some(Ok(upstream.clone())));
        let second = site.fetch("app", &always).expect("the image");
        assert_eq!((second.digest.clone(), site.read(&second, "file")), (upstream, "two".to_owned()));
        assert_eq!(site.stored("layers"), [second.layers[0].hex()]);

        // A pin holds on to the image that the tag has left.
        let pinned = ImageSpec { digest: Some(first.digest.clone()), ..missing.clone() };
        assert_eq!(site.read(&site.fetch("app", &pinned).expect("the image"), "file"), "one");

        drop(registry);
        let Some(Err(why)) = site.observe("app", &ImageSpec { pull: PullPolicy::Always, ..pinned.clone() }).upstream
        else {
            panic!("nobody answered, yet something was said")
        };
        assert!(why.contains("cannot be reached") && why.contains("Connection refused"), "{why}");
        let never = ImageSpec { pull: PullPolicy::Never, ..pinned };
        assert_eq!(site.read(&site.fetch("app", &never).expect("the store holds it"), "file"), "one");
    });
}

#[test]
fn layers_are_shared_and_fetched_once() {
    on_site(|site| {
        let registry = Registry::start(Options::default());
        let base: Vec<Vec<u8>> = (0..5).map(|n| layer(&[(&format!("base{n}"), &"x".repeat(300_000))])).collect();
        let mut specs = Vec::new();
        let mut blobs = BTreeSet::new();
        for n in 0..4 {
            let directory = site.directory(&format!("image{n}"));
            let mut layers = base.clone();
            layers.push(layer(&[("own", &n.to_string())]));
            // A layer twice in one image.
            layers.push(base[0].clone());
            blobs.extend(write_layout(&directory, &Image::new(layers)).blobs);
            registry.push(&oci(&directory), &format!("image{n}:1"), &[]);
            specs.push(registry_image(&registry.reference(&format!("image{n}:1"))));
        }
        let names = ["a", "b", "c", "d"];
        let wanted: Vec<_> = names.into_iter().zip(&specs).collect();
        let images = site.fetch_all(&wanted);
        for (n, image) in images.iter().enumerate() {
            assert_eq!(site.read(image, "own"), n.to_string());
            assert_eq!(image.layers.len(), 7);
            assert_eq!(image.layers[0], image.layers[6]);
        }
        assert_eq!(site.stored("layers").len(), 9);
        let log = registry.log();
        for blob in &blobs {
            let gets = log.lines().filter(|line| line.contains("\"GET /v2/") && line.contains(blob.as_str()));
            assert_eq!(gets.count(), 1, "{blob}");
        }
        for name in &names[..3] {
            site.remove(name);
        }
        assert_eq!(site.stored("layers").len(), 6);
        assert_eq!(site.read(&site.observe("d", &specs[3]), "base3"), "x".repeat(300_000));
    });
}

#[test]
fn a_login_is_looked_for_and_named() {
    on_site(|site| {
        let registry = Registry::start(Options { htpasswd: true, ..Options::default() });
        push_small(site, &registry, "private:1", "one");
        let spec = registry_image(&registry.reference("private:1"));
        let file = site.path("other.json");

        let error = site.refused("private", &spec);
        let expected = format!(
            "{} wants a login for {} (HTTP status 401); no credential",
            registry.address(),
            registry.reference("private:1")
        );
        assert!(error.starts_with(&expected) && error.contains(&file.display().to_string()), "{error}");

        registry.write_login(&file, USER, "wrong");
        let error = site.refused("private", &spec);
        assert!(error.contains(&format!("the credential in {} was used", file.display())), "{error}");
        assert!(!error.contains("wrong"), "{error}");

        fs::write(&file, serde_json::json!({"credHelpers": {registry.address(): "desktop"}}).to_string())
            .expect("a file");
        let error = site.refused("private", &spec);
        assert!(error.contains("the helper `desktop`, which is not started"), "{error}");
        fs::write(&file, "{").expect("a file");
        let error = site.refused("private", &spec);
        assert!(error.contains(&format!("the credentials in {} are not valid JSON", file.display())), "{error}");

        registry.write_login(&file, USER, PASSWORD);
        assert_eq!(site.read(&site.fetch("private", &spec).expect("the image"), "file"), "one");
    });
}

#[test]
fn https_needs_an_authority_that_is_trusted() {
    on_site(|site| {
        let registry = Registry::start(Options { tls: true, htpasswd: true });
        push_small(site, &registry, "secure:1", "one");
        registry.write_login(&site.path("auth.json"), USER, PASSWORD);
        let spec = registry_image(&registry.reference("secure:1"));

        let error = site.refused("secure", &spec);
        assert!(error.contains("shows a certificate that is not trusted"), "{error}");
        assert!(error.contains(&format!("certs.d/{}/ca.crt", registry.address())), "{error}");

        let trusted = site.path("certs.d").join(registry.address());
        fs::create_dir_all(&trusted).expect("a directory");
        fs::copy(registry.authority(), trusted.join("ca.crt")).expect("the authority");
        let image = site.fetch("secure", &spec).expect("the image");
        assert_eq!(site.read(&image, "file"), "one");
        let always = ImageSpec { pull: PullPolicy::Always, ..spec };
        assert_eq!(site.observe("secure", &always).upstream, Some(Ok(image.digest)));
    });
}

#[test]
fn what_the_registry_damaged_is_not_kept() {
    on_site(|site| {
        let registry = Registry::start(Options::default());
        let directory = site.directory("layout");
        let text = "content".repeat(20_000);
        let written = write_layout(&directory, &Image::new(vec![layer(&[("file", &text)])]).packed(Packing::Plain));
        registry.push(&oci(&directory), "app:1", &[]);
        let spec = registry_image(&registry.reference("app:1"));
        let blob = registry.blob(written.blobs[0].hex());
        let sound = fs::read(&blob).expect("the blob");

        let mut tampered = sound.clone();
        tampered[70_000] ^= 1;
        fs::write(&blob, &tampered).expect("the blob");
        let error = site.refused("app", &spec);
        assert!(error.contains(&format!("layer {}", written.blobs[0])), "{error}");
        assert!(error.contains("damaged or tampered with"), "{error}");

        fs::write(&blob, &sound[..80_000]).expect("the blob");
        let error = site.refused("app", &spec);
        assert!(error.contains(written.blobs[0].as_str()), "{error}");
        assert!(site.is_absent("app"));
        assert!(site.stored("layers").is_empty());
        assert!(!site.stored("images/blobs/sha256").contains(&written.blobs[0].hex().to_owned()));

        fs::write(&blob, &sound).expect("the blob");
        assert_eq!(site.read(&site.fetch("app", &spec).expect("the image"), "file"), text);
    });
}

#[test]
fn what_is_not_there_is_named() {
    on_site(|site| {
        let mut registry = Registry::start(Options::default());
        push_small(site, &registry, "app:1", "one");
        for missing in ["app:2", "other:1"] {
            let reference = registry.reference(missing);
            let error = site.refused("app", &registry_image(&reference));
            assert!(
                error.starts_with(&format!("{} has no {reference} (HTTP status 404)", registry.address())),
                "{error}"
            );
        }
        let digest: Digest = parsed(&format!("sha256:{}", "0".repeat(64)));
        let spec = registry_image(&registry.reference("app:1"));
        let error = site.refused("app", &ImageSpec { digest: Some(digest.clone()), ..spec.clone() });
        assert!(error.contains(digest.as_str()) && error.contains("404"), "{error}");
        let error = site.refused("app", &registry_image("Not:A:Reference"));
        assert!(error.contains("`Not:A:Reference` is not an image reference"), "{error}");

        registry.stop();
        let error = site.refused("app", &spec);
        assert!(error.contains(&format!("{} cannot be reached for", registry.address())), "{error}");
        registry.restart();
        assert_eq!(site.read(&site.fetch("app", &spec).expect("the image"), "file"), "one");
    });
}
