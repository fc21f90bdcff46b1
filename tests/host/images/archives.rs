//! Images from files, in the forms that skopeo, tar and gzip make.

use std::fs;
use std::process::Command;

use evenkeel_schema::{ImageSpec, PullPolicy};
use evenkeel_tests::images::{Image, Packing, convert, gzip, layer, write_layout, write_multi_platform_layout, zstd};
use evenkeel_tests::run;

use super::{archive_image, on_site};

#[test]
fn every_form_of_archive_gives_the_same_layers() {
    on_site(|site| {
        let directory = site.directory("layout");
        let first = layer(&[("etc/a", "1"), ("etc/b", "1")]);
        let second = layer(&[("etc/.wh.a", ""), ("etc/c", "2")]);
        let written = write_layout(&directory, &Image::new(vec![first, second]));
        let source = format!("oci:{}:latest", directory.display());
        let path = |name: &str| site.path(name).display().to_string();
        convert(&source, &format!("docker-archive:{}:app:1", path("saved.tar")));
        convert(&source, &format!("oci-archive:{}:app", path("oci.tar")));
        let saved = fs::read(site.path("saved.tar")).expect("the archive");
        fs::write(site.path("saved.tar.gz"), gzip(&saved)).expect("an archive");
        fs::write(site.path("oci.tar.zst"), zstd(&fs::read(site.path("oci.tar")).expect("the archive")))
            .expect("an archive");

        let mut layers = Vec::new();
        for form in ["layout", "oci.tar", "oci.tar.zst", "saved.tar", "saved.tar.gz"] {
            let spec = archive_image(&site.path(form));
            let image = site.fetch(&form.replace('.', "-"), &spec).expect(form);
            assert_eq!(image.layers, written.diff_ids, "{form}");
            assert_eq!(image.config.cmd, ["/bin/sh"], "{form}");
            let topmost = &site.store.layer_directories(&image)[0];
            let whiteout = fs::symlink_metadata(topmost.join("etc/a")).expect("a whiteout");
            assert!(std::os::unix::fs::FileTypeExt::is_char_device(&whiteout.file_type()), "{form}");
            assert_eq!(site.observe(&form.replace('.', "-"), &spec), image, "{form}");
            if form.starts_with("layout") {
                assert_eq!((&image.digest, &image.id), (&written.manifest, &written.config));
            }
            if form.starts_with("saved") {
                assert_eq!(image.digest, image.id, "a saved image has no digest but its own");
            }
            layers.push(image.layers);
        }
        assert_eq!(site.stored("layers").len(), 2);
        // What the store keeps is a layout itself, under the images' names.
        let names = run(Command::new("skopeo")
            .args(["inspect", "--raw"])
            .arg(format!("oci:{}:saved-tar", site.sandbox.paths().images().display())))
        .expect_code(0);
        assert_eq!(names.json()["layers"].as_array().map(Vec::len), Some(2));
        // And whole: skopeo compares every digest.
        convert(&format!("oci:{}:layout", site.sandbox.paths().images().display()), &format!("dir:{}", path("copy")));
    });
}

#[test]
fn a_changed_archive_is_seen() {
    on_site(|site| {
        let spec = archive_image(&site.path("app.tar"));
        let save = |text: &str| {
            let directory = site.directory(text);
            let written = write_layout(&directory, &Image::new(vec![layer(&[("file", text)])]).packed(Packing::Plain));
            let source = format!("oci:{}:latest", directory.display());
            // skopeo adds to an archive that is there.
            drop(fs::remove_file(site.path("app.tar")));
            convert(&source, &format!("docker-archive:{}:app:1", site.path("app.tar").display()));
            written
        };
        save("one");
        let first = site.fetch("app", &spec).expect("the image");
        assert_eq!(site.observe("app", &spec).upstream, None);
        save("two");
        let seen = site.observe("app", &spec);
        let Some(Ok(upstream)) = seen.upstream else { panic!("the change was not seen") };
        assert_ne!(upstream, first.digest);
        let never = ImageSpec { pull: PullPolicy::Never, ..spec.clone() };
        assert_eq!(site.observe("app", &never).upstream, None);
        let second = site.fetch("app", &spec).expect("the image");
        assert_eq!((&second.digest, site.read(&second, "file").as_str()), (&upstream, "two"));
        assert_eq!(site.stored("layers"), [second.layers[0].hex()]);
    });
}

#[test]
fn an_archive_of_several_platforms_gives_this_machines() {
    on_site(|site| {
        let directory = site.directory("layout");
        let platforms = ["linux/riscv64", "linux/amd64", "linux/arm64"];
        let images: Vec<Image> = platforms
            .iter()
            .map(|platform| Image::new(vec![layer(&[("platform", platform)])]).for_platform(platform))
            .collect();
        let (index, _) = write_multi_platform_layout(&directory, &images);
        run(Command::new("tar")
            .arg("--create")
            .arg("--file")
            .arg(site.path("many.tar"))
            .arg("-C")
            .arg(&directory)
            .arg("."))
        .expect_code(0);
        let image = site.fetch("many", &archive_image(&site.path("many.tar"))).expect("the image");
        assert_eq!(image.digest, index);
        let machine = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
        assert_eq!(site.read(&image, "platform"), machine);
    });
}

#[test]
fn archives_that_leave_a_choice_or_lack_a_part_are_refused() {
    on_site(|site| {
        // As `docker save one two` writes it: the files of both, and one list.
        let (together, mut list, mut written) = (site.directory("together"), Vec::new(), Vec::new());
        for text in ["one", "two"] {
            let directory = site.directory(text);
            written.push(write_layout(&directory, &Image::new(vec![layer(&[("file", text)])])));
            let saved = site.path(&format!("{text}.tar")).display().to_string();
            convert(&format!("oci:{}:latest", directory.display()), &format!("docker-archive:{saved}:app:{text}"));
            run(Command::new("tar").args(["-xf", &saved, "-C"]).arg(&together)).expect_code(0);
            let manifest = fs::read_to_string(together.join("manifest.json")).expect("its list");
            list.extend(serde_json::from_str::<Vec<serde_json::Value>>(&manifest).expect("JSON"));
        }
        fs::write(together.join("manifest.json"), serde_json::to_string(&list).expect("JSON")).expect("a list");
        run(Command::new("tar").arg("-cf").arg(site.path("several.tar")).arg("-C").arg(&together).arg("."))
            .expect_code(0);
        let spec = archive_image(&site.path("several.tar"));
        let error = site.refused("app", &spec);
        assert!(error.contains("holds 2 images") && error.contains("app:one") && error.contains("app:two"), "{error}");
        let id = list[1]["Config"].as_str().and_then(|name| name.strip_suffix(".json")).expect("a configuration");
        let pin = format!("sha256:{id}").parse().expect("a digest");
        let image = site.fetch("app", &ImageSpec { digest: Some(pin), ..spec }).expect("the pinned one");
        assert_eq!(site.read(&image, "file"), "two");

        let layout = site.path("one");
        let blob = layout.join("blobs/sha256").join(written[0].blobs[0].hex());
        let sound = fs::read(&blob).expect("the blob");
        fs::write(&blob, [&sound[..sound.len() - 1], b"x"].concat()).expect("the blob");
        let error = site.refused("damaged", &archive_image(&layout));
        assert!(error.contains(written[0].blobs[0].as_str()) && error.contains("tampered"), "{error}");
        fs::remove_file(&blob).expect("the blob");
        let error = site.refused("damaged", &archive_image(&layout));
        assert!(error.contains(&format!("lacks blobs/sha256/{}", written[0].blobs[0].hex())), "{error}");

        let other = site.path("other.tar");
        fs::write(&other, layer(&[("etc/passwd", "")])).expect("an archive");
        let error = site.refused("other", &archive_image(&other));
        assert!(error.contains("is not an image archive"), "{error}");
        let error = site.refused("none", &archive_image(&site.path("none.tar")));
        assert!(error.contains("none.tar") && error.contains("No such file"), "{error}");
        let whole = gzip(&layer(&[("manifest.json", "[]")]));
        fs::write(site.path("cut.tar.gz"), &whole[..whole.len() - 20]).expect("an archive");
        let error = site.refused("cut", &archive_image(&site.path("cut.tar.gz")));
        assert!(error.contains("cut.tar.gz is a gzip archive that cannot be decompressed"), "{error}");
    });
}
