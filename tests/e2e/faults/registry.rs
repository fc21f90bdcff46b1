//! Registries that fail in every way, met through the program: what is said, what goes on, and what comes after.

use std::fs;

use evenkeel_tests::faulty_registry::{Fault, FaultyRegistry, status};
use evenkeel_tests::images::{Image, Packing, WrittenImage, layer, write_layout};
use evenkeel_tests::random::noise;
use evenkeel_tests::registry::{Options, PASSWORD, Registry, USER};
use evenkeel_tests::{Run, Sandbox, run, sandboxed, store};

use crate::story;

/// Text that does not compress, other for each name.
fn noise_of(name: &str, bytes: usize) -> String {
    noise(name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))), bytes)
}

/// Puts an image of one layer into a registry under `NAME:1`.
fn push(sandbox: &Sandbox, registry: &Registry, name: &str) -> WrittenImage {
    let layout = sandbox.directory().join(format!("layout-{name}"));
    let image = Image::new(vec![layer(&[("file", &noise_of(name, 320_000))])]).packed(Packing::Plain);
    let written = write_layout(&layout, &image);
    registry.push(&format!("oci:{}:latest", layout.display()), &format!("{name}:1"), &[]);
    written
}

/// Writes the image's manifest, and that of a container which needs it.
fn manifests(sandbox: &Sandbox, name: &str, reference: &str) {
    let image = story::image(name, &format!("reference: \"{reference}\", insecure: true"));
    let container = format!(
        "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: of-{name}}}\nspec: {{image: {name}, command: [/none]}}\n"
    );
    sandbox.manifest(&format!("{name}.yaml"), &image);
    sandbox.manifest(&format!("{name}-container.yaml"), &container);
}

/// Applies with little patience for silence.
fn apply(sandbox: &Sandbox, more: &[(&str, &str)]) -> Run {
    let manifests = sandbox.manifests();
    let mut command = sandbox.command(&["apply".as_ref(), "-f".as_ref(), manifests.as_os_str()]);
    run(command.env("EVENKEEL_REGISTRY_SILENCE", "1s").envs(more.iter().copied()))
}

/// Gives the one line that tells of an image's failure, which is not a whole page of what the registry sent.
#[track_caller]
fn failure<'r>(run: &'r Run, name: &str) -> &'r str {
    let line = run.failure(&format!("image/{name}"));
    assert!(line.len() < 1500, "{line}");
    line
}

/// Takes the containers away, which only stood for what depends on an image, and requires that the rest comes.
fn converges(sandbox: &Sandbox, more: &[(&str, &str)]) {
    sandbox.withdraw_where(|name| name.ends_with("-container.yaml"));
    apply(sandbox, more).expect_code(0);
    story::in_sync(sandbox);
    store::assert_sound(&sandbox.paths());
}

#[test]
fn each_fault_of_a_registry_is_told_and_stays_with_its_image() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        let faulty = FaultyRegistry::before(&registry);
        let manifest = |name: &str| format!("/v2/{name}/manifests/");
        let blob = |name: &str| format!("GET /v2/{name}/blobs/");
        // The fault, where it strikes, and what has to be said of it.
        let other = layer(&[("file", "of somebody else")]);
        let faults: Vec<(&str, String, Fault, &[&str])> = vec![
            ("silent", manifest("silent"), Fault::Silent, &["said nothing for 1 s"]),
            ("stalls", String::new(), Fault::Stalls { after: 50_000 }, &["stopped in the midst of layer", "after 150000 of", "for 1 s"]),
            ("cut", String::new(), Fault::CutOff { after: 0 }, &["layer sha256:"]),
            ("endless", manifest("endless"), Fault::Endless, &["more than 4194304 bytes", "endless:1"]),
            ("endless-blob", String::new(), Fault::Endless, &["layer sha256:", "bytes long instead of"]),
            ("longer", String::new(), Fault::Body(noise_of("longer", 480_000).into_bytes()), &["layer sha256:", "bytes long instead of"]),
            ("shorter", String::new(), Fault::Body(b"short".to_vec()), &["layer sha256:", "5 bytes long instead of"]),
            ("tampered", String::new(), Fault::Body(vec![]), &["layer sha256:", "damaged or tampered with"]),
            ("loops", manifest("loops"), Fault::Redirects, &["redirects from one address to the next", "loops:1"]),
            ("limited", manifest("limited"), status("429 Too Many Requests", &["retry-after: 7200"], "{}"), &["limits requests", "in 7200 s", "429"]),
            ("busy", manifest("busy"), status("503 Service Unavailable", &["Retry-After: Fri, 01 Jan 2100 00:00:00 GMT"], "{}"), &["wants to be asked again in", "503"]),
            ("broken", manifest("broken"), status("500 Internal Server Error", &[], "the disk is full"), &["HTTP status 500", "the disk is full"]),
            ("denied", manifest("denied"), status("403 Forbidden", &[], r#"{"errors": [{"code": "DENIED", "message": "pay first"}]}"#), &["403", "DENIED pay first"]),
            ("garbage", manifest("garbage"), Fault::Body(b"<html>a hotel's login page</html>".to_vec()), &["garbage:1", "not valid JSON"]),
            ("helm", manifest("helm"), Fault::Body(br#"{"schemaVersion": 2, "mediaType": "application/vnd.cncf.helm.config.v1+json"}"#.to_vec()), &["application/vnd.cncf.helm.config.v1+json", "no container image"]),
            ("deep", manifest("deep"), Fault::Body("[".repeat(1 << 20).into_bytes()), &["deep:1", "not valid JSON"]),
            ("climbs", manifest("climbs"), Fault::Body(br#"{"schemaVersion": 2, "config": {"digest": "sha256:../../../etc/passwd", "size": 1}, "layers": []}"#.to_vec()), &["climbs:1", "not valid JSON"]),
        ];
        for (name, part, fault, _) in &faults {
            let written = push(sandbox, &registry, name);
            manifests(sandbox, name, &format!("{}/{name}:1", faulty.address()));
            let fault = match *name {
                // As long as it should be.
                "tampered" => Fault::Body({
                    let mut bytes = fs::read(registry.blob(written.blobs[0].hex())).expect("the blob");
                    bytes[..other.len()].copy_from_slice(&other);
                    bytes
                }),
                _ => fault.clone(),
            };
            let part = if part.is_empty() { format!("{}{}", blob(name), written.blobs[0]) } else { part.clone() };
            faulty.set(&part, fault);
        }
        manifests(sandbox, "unknown", &registry.reference("nothing:9"));
        sandbox.manifest("free.yaml", story::DATA);

        let told = apply(sandbox, &[]).expect_code(1);
        let unknown: (&str, &[&str]) = ("unknown", &["nothing:9", "404"]);
        for (name, words) in faults.iter().map(|(name, _, _, words)| (*name, *words)).chain([unknown]) {
            let line = failure(&told, name);
            for word in words {
                assert!(line.contains(word), "`{word}` is not said of {name}\n{line}");
            }
            assert!(told.stdout.contains(&format!("blocked: container/of-{name}: needs image/{name}\n")), "{told}");
        }
        assert!(sandbox.paths().root().join("volumes/data").is_dir(), "what needs none of them came\n{told}");
        store::assert_sound(&sandbox.paths());

        faulty.heal();
        push(sandbox, &registry, "nothing");
        registry.push(
            &format!("oci:{}:latest", sandbox.directory().join("layout-nothing").display()),
            "nothing:9",
            &[],
        );
        converges(sandbox, &[]);
    });
}

#[test]
fn a_registry_that_is_down_and_comes_again_gives_a_running_container() {
    sandboxed(|sandbox| {
        let mut registry = Registry::start(Options::default());
        let layout = sandbox.directory().join("layout");
        let image = Image::busybox(vec![layer(&[("www/index.html", "pulled")])]);
        write_layout(&layout, &image);
        registry.push(&format!("oci:{}:latest", layout.display()), "site:1", &[]);
        sandbox.manifest("shop.yaml", story::SHOP);
        let reference = registry.reference("site:1");
        sandbox.manifest("front.yaml", &story::front("8080").replace("image: busybox", &format!("image: {reference}")));
        registry.stop();
        let run = apply(sandbox, &[]).expect_code(1);
        let all = run.to_string();
        for words in [
            &format!("{} cannot be reached for {reference}", registry.address()),
            "Connection refused",
            "blocked: container/front",
        ] {
            assert!(all.contains(words), "{words}\n{run}");
        }
        assert!(evenkeel_tests::ask::link_exists("ek-shop"), "the network needs no image\n{run}");
        registry.restart();
        apply(sandbox, &[]).expect_code(0);
        assert_eq!(evenkeel_tests::ask::page(None, "http://127.0.0.1:8080/"), "pulled");
        story::in_sync(sandbox);
        store::assert_sound(&sandbox.paths());
    });
}

#[test]
fn what_was_cut_off_is_taken_up_where_it_broke() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        let faulty = FaultyRegistry::before(&registry);
        let written = push(sandbox, &registry, "app");
        manifests(sandbox, "app", &format!("{}/app:1", faulty.address()));
        let part = format!("GET /v2/app/blobs/{}", written.blobs[0]);
        faulty.set_in_turn(&part, [Fault::CutOff { after: 200_000 }]);
        converges(sandbox, &[]);
        let blobs: Vec<String> = faulty.requests().into_iter().filter(|line| line.starts_with(&part)).collect();
        assert_eq!(blobs, [part.clone(), format!("{part} bytes=200000-")]);

        // What is taken up at the wrong place has another digest.
        manifests(sandbox, "other", &format!("{}/other:1", faulty.address()));
        let written = push(sandbox, &registry, "other");
        let part = format!("GET /v2/other/blobs/{}", written.blobs[0]);
        let length = fs::metadata(registry.blob(written.blobs[0].hex())).expect("the blob").len() as usize;
        let wrong = Fault::Answers {
            status: "206 Partial Content".to_owned(),
            headers: Vec::new(),
            body: noise_of("wrong", length - 200_000).into_bytes(),
        };
        faulty.set_in_turn(&part, [Fault::CutOff { after: 200_000 }, wrong]);
        let run = apply(sandbox, &[]).expect_code(1);
        let line = failure(&run, "other");
        assert!(line.contains("damaged or tampered with"), "{line}");
        faulty.heal();
        converges(sandbox, &[]);
    });
}

#[test]
fn passing_failures_are_waited_out_as_the_registry_asks() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options::default());
        let faulty = FaultyRegistry::before(&registry);
        push(sandbox, &registry, "app");
        manifests(sandbox, "app", &format!("{}/app:1", faulty.address()));
        faulty.set_in_turn("/v2/app/manifests/", [status("429 Too Many Requests", &["retry-after: 2"], "{}")]);
        let begun = std::time::Instant::now();
        converges(sandbox, &[]);
        assert!(begun.elapsed().as_secs() >= 2, "it was asked again before the pause was over");
        assert_eq!(faulty.requests().iter().filter(|line| line.contains("/manifests/1")).count(), 2);
    });
}

#[test]
fn wrong_credentials_and_lost_token_services_are_told_without_the_secret() {
    sandboxed(|sandbox| {
        let registry = Registry::start(Options { htpasswd: true, ..Options::default() });
        push(sandbox, &registry, "private");
        manifests(sandbox, "private", &registry.reference("private:1"));
        let open = Registry::start(Options::default());
        let faulty = FaultyRegistry::before(&open);
        push(sandbox, &open, "token");
        manifests(sandbox, "token", &format!("{}/token:1", faulty.address()));
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let realm = format!("http://{}/token", nobody.local_addr().expect("its address"));
        drop(nobody);
        let challenge = format!("www-authenticate: Bearer realm=\"{realm}\",service=\"fake\"");
        faulty.set("/v2/", status("401 Unauthorized", &[&challenge], "{}"));

        let login = sandbox.directory().join("auth.json");
        registry.write_login(&login, USER, "not the password");
        let variables = [("REGISTRY_AUTH_FILE", login.to_str().expect("a path"))];
        let run = apply(sandbox, &variables).expect_code(1);
        let line = failure(&run, "private");
        assert!(
            line.contains("wants a login") && line.contains(&format!("the credential in {}", login.display())),
            "{line}"
        );
        let line = failure(&run, "token");
        assert!(line.contains(&realm) && line.contains("Connection refused"), "{line}");
        assert!(!run.to_string().contains("not the password"), "{run}");

        registry.write_login(&login, USER, PASSWORD);
        faulty.heal();
        converges(sandbox, &variables);
    });
}

#[test]
fn a_patience_that_is_no_time_is_refused() {
    sandboxed(|sandbox| {
        sandbox.manifest("free.yaml", story::DATA);
        let manifests = sandbox.manifests();
        let mut command = sandbox.command(&["apply".as_ref(), "-f".as_ref(), manifests.as_os_str()]);
        let run = run(command.env("EVENKEEL_REGISTRY_SILENCE", "soon"));
        assert!(!run.succeeded() && run.stderr.contains("EVENKEEL_REGISTRY_SILENCE is `soon`"), "{run}");
    });
}
