//! Every kind of object in every form that is written differently: made, changed, damaged and repaired, removed.

use std::fs;
use std::path::PathBuf;

use evenkeel_tests::images::{Image, convert, layer, write_layout};
use evenkeel_tests::registry::{Options, Registry};
use evenkeel_tests::{Run, Sandbox, ask, program};

use super::driver::Driver;
use super::walk::Scenario;
use crate::story;

pub struct Everything<'s> {
    sandbox: &'s Sandbox,
    registry: Registry,
    archive: PathBuf,
}

const STAGES: [&str; 4] = ["create", "change", "repair", "remove"];

/// A bridge network on a link that somebody else made.
const TAKEN: &str = r#"apiVersion: evenkeel/v1
kind: Network
metadata: {name: taken}
spec:
  driver: bridge
  bridge: taken0
  subnets: [{subnet: 10.88.0.0/24}]
policy: {adopt: true}
"#;

impl<'s> Everything<'s> {
    pub fn new(sandbox: &'s Sandbox) -> Everything<'s> {
        sandbox.wire("parent0");
        let registry = Registry::start(Options::default());
        let directory = |name: &str| sandbox.directory().join(name);
        for (tag, text) in [("1", "one"), ("2", "two")] {
            let layout = directory(&format!("layout-{tag}"));
            write_layout(&layout, &Image::busybox(vec![layer(&[("www/index.html", text)])]));
            registry.push(&format!("oci:{}:latest", layout.display()), &format!("site:{tag}"), &[]);
        }
        let archive = directory("tool.tar");
        convert(
            &format!("oci:{}:latest", directory("layout-1").display()),
            &format!("oci-archive:{}:latest", archive.display()),
        );
        fs::create_dir(directory("shared")).expect("a directory to share");
        Everything { sandbox, registry, archive }
    }

    /// The manifests as they are first, and as they are changed.
    fn state(&self, changed: bool) {
        let either = |first: &'static str, then: &'static str| if changed { then } else { first };
        let sandbox = self.sandbox;
        let image = |name: &str, source: &str| story::image(name, source) + "---\n";
        let site = self.registry.reference(either("site:1", "site:2"));
        let mut images = sandbox.busybox_image() + "---\n";
        images += &image("site", &format!("reference: \"{site}\", pull: always"));
        let mut containers = story::front(either("8080", "8081")).replace("image: busybox", "image: site")
            + &format!("  resources: {{pids: {}}}\n  dependsOn: [{{container: web}}]\n---\n", either("50", "60"));
        if changed {
            fs::remove_file(sandbox.manifests().join("job.yaml")).expect("the job's manifest");
        } else {
            let tool = image("tool", &format!("archive: {}", self.archive.display()));
            let job = story::shell("job", "echo one; exec sleep 100000", "").replace("image: busybox", "image: tool");
            sandbox.manifest("job.yaml", &(tool + &job));
        }
        let shared = sandbox.directory().join("shared");
        let mounts = format!(
            "mounts: [{{volume: data, target: /www}}, {{bind: {}, target: /shared, idmap: {{uid: \"1000:999\"}}}}]",
            shared.display()
        );
        let web = story::WEB.replace("mounts: [{volume: data, target: /data}]", &mounts);
        containers +=
            &web.replace("ipv4: 10.0.36.200}", either("ipv4: 10.0.36.200}", "ipv4: 10.0.36.200}, {name: shop}"));
        sandbox.manifest("images.yaml", &images);
        sandbox.manifest("containers.yaml", &containers);
        sandbox.manifest("taken.yaml", TAKEN);
        let shop = "driver: bridge\n  bridge: ";
        sandbox.manifest(
            "shop.yaml",
            &story::SHOP.replace("driver: bridge", &format!("{shop}{}", either("shop0", "shop1"))),
        );
        sandbox.manifest(
            "mynet.yaml",
            &story::MYNET.replace("10.0.36.192/27", either("10.0.36.192/27", "10.0.36.192/26")),
        );
        let data = story::DATA.replace("0750", either("0755", "0711")) + "policy: {prune: delete, dataLoss: allow}\n";
        sandbox.manifest("data.yaml", &data);
    }

    /// Changes everything on the host that evenkeel repairs.
    fn damage(&self) {
        let sandbox = self.sandbox;
        let instance = sandbox.instance();
        let shim = |container| story::status(sandbox, container).expect("its status")["shimPid"].clone();
        let web = shim("web");
        program::sh(&format!("kill -9 {web}; while test -d /proc/{web}; do sleep 0.01; done"));
        let front = sandbox.paths().container_run(&"front".parse().expect("a name"));
        program::sh(&format!("kill -STOP {}; rm {}/shim.sock", shim("front"), front.display()));
        let inside = |container: &str, line: &str| {
            let netns = sandbox.container_netns(container);
            program::run_in(&netns, &["sh", "-ec", line]).expect_code(0);
        };
        inside("front", "ip link del eth0; ip link add eth0 type bridge");
        let mark = format!("{}:container/web", instance.as_str());
        inside("web", &format!("ip link add extra type bridge; ip link set extra alias {mark}"));
        inside("web", "ip route add default via 10.0.36.1 metric 50");
        program::sh(&format!(
            "ip route flush dev shop1; ip addr add 10.77.0.99/24 dev shop1; ip route add 10.99.0.0/24 dev mynet-shim; \
             nft delete table inet {}; chmod 0700 {}",
            instance.as_str(),
            sandbox.paths().volume(&"data".parse().expect("a name")).display()
        ));
        let pids = ask::cgroup_file(instance.as_str(), "front", "pids.max", "pids.max");
        fs::write(pids, "70").expect("another limit");
        fs::write(sandbox.paths().images().join("names/.tmp-left"), "").expect("what a killed process left");
        let web = sandbox.paths().container_run(&"web".parse().expect("a name"));
        fs::create_dir_all(web.join("mounts/left")).expect("what a killed process left");
        // A layer of `site` alone: its text.
        let blobs = sandbox.directory().join("layout-2/blobs/sha256");
        let of_site = fs::read_dir(blobs).expect("the layout's blobs").filter_map(Result::ok);
        let small = of_site.filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() < 400));
        for blob in small {
            let path = sandbox.paths().images().join("blobs/sha256").join(blob.file_name());
            drop(fs::remove_file(path));
        }
    }
}

impl Scenario for Everything<'_> {
    fn stages(&self) -> &[&'static str] {
        &STAGES
    }

    fn prepare(&self, stage: &str) {
        match stage {
            "create" => {
                program::sh(
                    "ip link set parent0 down; ip link show taken0 >/dev/null 2>&1 || ip link add taken0 type bridge; \
                     echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding",
                );
                self.state(false);
            }
            "change" => self.state(true),
            "repair" => self.damage(),
            _ => {
                self.sandbox.withdraw_all();
                // One that was never adopted is somebody else's still, and stays.
                program::sh(
                    "ip -d link show taken0 2>/dev/null | grep -q alias || ip link del taken0 2>/dev/null || true",
                );
            }
        }
    }

    fn run(&self, _: &str, driver: Driver, environment: &[(&str, String)]) -> Run {
        driver.run(self.sandbox, environment)
    }

    fn verify(&self, stage: &str) {
        let (port, text) = match stage {
            "create" => ("8080", "one"),
            "remove" => return,
            _ => ("8081", "two"),
        };
        assert_eq!(ask::page(None, &format!("http://127.0.0.1:{port}/")), text);
        assert_eq!(ask::page(None, "http://10.0.36.200/"), "hello\n");
        if stage == "create" {
            story::running(self.sandbox, "job");
        }
    }
}
