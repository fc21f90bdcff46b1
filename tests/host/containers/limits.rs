//! Limits: in the cgroup's files from the start, changed while the container runs, and kept over a restart.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use evenkeel_plan::{ObservedLimits, ObservedSwap};
use evenkeel_schema::MilliCpus;
use evenkeel_tests::ask::{cgroup_file, start_time};
use evenkeel_tests::eventually;

use super::{Site, name, shell, spec, with_both_runtimes};

with_both_runtimes![limits_are_in_the_cgroup, limits_change_while_it_runs, the_names_change_while_it_runs];

fn read(site: &Site, v2: &str, v1: &str) -> String {
    let file = cgroup_file(site.sandbox.instance().as_str(), "web", v2, v1);
    fs::read_to_string(file).expect("a limit").trim().to_owned()
}

fn unlimited(site: &Site) -> Option<ObservedLimits> {
    Some(ObservedLimits { swap: site.swap("web", false), ..ObservedLimits::default() })
}

fn limits_are_in_the_cgroup(site: &Site) {
    let yaml = format!("{}resources: {{memory: 64Mi, cpus: 0.5, pids: 20}}\n", shell("true"));
    site.run("web", &yaml);
    assert_eq!(read(site, "memory.max", "memory.limit_in_bytes"), "67108864");
    let limited = site.swap("web", true);
    if limited != ObservedSwap::Unaccounted {
        let swap = read(site, "memory.swap.max", "memory.memsw.limit_in_bytes");
        assert!(["0", "67108864"].contains(&swap.as_str()), "{swap}");
    }
    assert_eq!(read(site, "pids.max", "pids.max"), "20");
    assert!(["50000", "50000 100000"].contains(&read(site, "cpu.max", "cpu.cfs_quota_us").as_str()));
    let seen = site.observe("web");
    let limits = ObservedLimits { memory: Some(64 << 20), cpus: Some(MilliCpus(500)), pids: Some(20), swap: limited };
    assert_eq!(seen.limits, Some(limits));
    assert_eq!(seen.pids, Some(1));
    // What someone else writes is seen as it is.
    fs::write(cgroup_file(site.sandbox.instance().as_str(), "web", "pids.max", "pids.max"), "33").expect("a write");
    assert_eq!(site.observe("web").limits, Some(ObservedLimits { pids: Some(33), ..limits }));
}

fn limits_change_while_it_runs(site: &Site) {
    let line = shell("true");
    let pid = site.run("web", &line);
    assert_eq!(site.observe("web").limits, unlimited(site));
    let limited = spec(&format!("{line}resources: {{memory: 128Mi, cpus: 1.5, pids: 30}}\n"));
    site.update("web", &limited, &Arc::default()).expect("update");
    let limits = ObservedLimits {
        memory: Some(128 << 20),
        cpus: Some(MilliCpus(1500)),
        pids: Some(30),
        swap: site.swap("web", true),
    };
    let seen = site.observe("web");
    assert_eq!((seen.limits, &seen.spec), (Some(limits), &limited));
    site.wait(site.containers.restart(&name("web"))).expect("restart");
    eventually("the limits after a restart", || {
        let seen = site.observe("web");
        match &seen.process {
            Some(_) if seen.limits == Some(limits) => Ok(()),
            _ => Err(format!("{:?} {:?}", seen.state, seen.limits)),
        }
    });
    assert_eq!(start_time(pid), None, "the old process is gone");
    site.update("web", &spec(&line), &Arc::default()).expect("update");
    assert_eq!(site.observe("web").limits, unlimited(site));
}

fn the_names_change_while_it_runs(site: &Site) {
    let yaml = shell("sleep 0.2; while ! grep peer /etc/hosts; do sleep 0.1; done; echo done");
    let own = BTreeMap::from([("10.1.2.3".parse().expect("an address"), ["web".to_owned()].into())]);
    site.create_with_hosts("web", &spec(&yaml), &Arc::new(own.clone())).expect("create");
    site.start("web");
    assert_eq!(*site.observe("web").hosts, own);
    let mut more = own.clone();
    more.insert("10.1.2.4".parse().expect("an address"), ["peer".to_owned(), "alias".to_owned()].into());
    site.update("web", &spec(&yaml), &Arc::new(more.clone())).expect("update");
    assert!(site.log_with("web", "done").contains("10.1.2.4\talias peer\n"));
    assert_eq!(*site.observe("web").hosts, more);
}
