use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use evenkeel_plan::{
    Action, Desired, Drift, Exit, HealthState, Key, Observed, ObservedContainer, Outcome, Plan, Remedy, Report,
    RunState, Sight, Source, Step, Why,
};
use insta::assert_snapshot;
use serde_json::json;
use time::macros::datetime;

use super::*;
use crate::ledger::DriftRecord;

const CLOCK: Clock = Clock(datetime!(2026-03-01 12:00:00 UTC));

fn key(text: &str) -> Key {
    text.parse().unwrap()
}

fn step(object: &str, action: Action) -> Step {
    Step { key: key(object), action, after: BTreeSet::new(), conditions: BTreeMap::new() }
}

fn drift(field: &str, desired: Option<&str>, observed: Option<&str>, remedy: Remedy) -> Drift {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Drift { field: field.to_owned(), desired: owned(desired), observed: owned(observed), remedy }
}

fn desired() -> Desired {
    let mut desired = Desired {
        source: Source { path: "/etc/evenkeel/manifests".into(), revision: "3f2a9c1".to_owned() },
        ..Desired::default()
    };
    let volume = json!({"metadata": {"name": "new"}, "spec": {"owner": "999:999", "mode": "0700"}});
    desired.volumes.insert("new".parse().unwrap(), serde_json::from_value(volume).unwrap());
    desired.files.insert(key("volume/new"), "volumes.yaml".into());
    desired.files.insert(key("network/mynet"), "net/mynet.yaml".into());
    desired
}

fn everything() -> Plan {
    let route = drift("shim.routes", Some("10.0.36.192/27"), None, Remedy::Live);
    let web = vec![
        drift("state", Some("running"), Some("exited with status 137"), Remedy::Start),
        drift("resources.memory", Some("512Mi"), Some("1Gi"), Remedy::Live),
    ];
    let image = vec![drift("image", Some("sha256:aa"), Some("sha256:bb"), Remedy::Replace)];
    let owner = vec![drift("owner", Some("999:999"), Some("0:0"), Remedy::Live)];
    let message = || "it cannot be read".to_owned();
    Plan {
        steps: vec![
            step("image/app", Action::Keep),
            step("volume/new", Action::Create),
            step("volume/data", Action::Hold(Why::ReportOnly { drifts: owner })),
            step("volume/old", Action::Hold(Why::Kept)),
            step("network/mynet", Action::Update(vec![route])),
            step("network/gone", Action::Delete),
            step("container/web", Action::Update(web)),
            step("container/api", Action::Replace(image)),
            step("container/db", Action::Hold(Why::Stopped { since: "2026-03-01T11:00:00Z".to_owned() })),
            step("container/x", Action::Hold(Why::Unreadable { message: message() })),
        ],
        firewall_differs: true,
        ..Plan::default()
    }
}

fn records() -> Vec<DriftRecord> {
    let at = |seen| DriftRecord { seen, since: "2026-03-01T11:59:56Z".to_owned(), until: None };
    seen(&everything()).into_iter().map(at).collect()
}

#[test]
fn drift_in_words() {
    let mut plan = everything();
    let report = DriftReport::new(&desired(), &plan, &records(), Vec::new());
    assert_snapshot!(report.text(CLOCK, Style::PLAIN));
    assert_eq!(report.exit_code(), 3, "an object could not be seen");
    plan.steps.retain(|step| !matches!(step.action, Action::Hold(Why::Unreadable { .. })));
    assert_eq!(DriftReport::new(&desired(), &plan, &[], Vec::new()).exit_code(), 1);
}

#[test]
fn drift_as_data() {
    let plan = Plan { steps: everything().steps.into_iter().skip(4).take(1).collect(), ..Plan::default() };
    let report = DriftReport::new(&desired(), &plan, &records(), Vec::new());
    assert_snapshot!(serde_json::to_string_pretty(&report).unwrap());
}

#[test]
fn in_sync_is_said_only_with_full_sight() {
    let plan = Plan { steps: vec![step("image/app", Action::Keep)], ..Plan::default() };
    let report = DriftReport::new(&desired(), &plan, &[], Vec::new());
    assert_eq!(report.text(CLOCK, Style::PLAIN), "IN SYNC  revision 3f2a9c1   1 object: 1 in sync\n");
    assert_eq!(report.exit_code(), 0);
    let report = DriftReport::new(&desired(), &plan, &[], vec!["web.yaml:1:1: no YAML".to_owned()]);
    assert!(!report.in_sync);
    assert_eq!(report.exit_code(), 3);
    assert!(report.text(CLOCK, Style::PLAIN).starts_with("INCOMPLETE"));
}

#[test]
fn a_plan_in_words() {
    assert_snapshot!(PlanReport::new(&desired().source, everything(), Vec::new()).text(Style::PLAIN));
}

#[test]
fn a_plan_without_work_says_so() {
    let plan = Plan { steps: vec![step("image/app", Action::Keep)], ..Plan::default() };
    let text = PlanReport::new(&desired().source, plan, Vec::new()).text(Style::PLAIN);
    assert_eq!(text, "No changes: 1 unchanged (revision 3f2a9c1)\n");
}

#[test]
fn a_diff_in_unified_form() {
    let applied = |_: &Key| Some(json!({"metadata": {"name": "gone"}, "spec": {"driver": "bridge"}}));
    assert_snapshot!(diff(&desired(), &everything(), applied, Style::PLAIN));
}

#[test]
fn a_summary_names_what_failed_and_what_waits_for_it() {
    let outcomes = BTreeMap::from([
        (key("volume/new"), Outcome::Applied),
        (key("network/mynet"), Outcome::Failed { error: "ens34: no such link".to_owned() }),
        (key("container/web"), Outcome::Blocked { by: key("network/mynet") }),
        (key("network/gone"), Outcome::Applied),
    ]);
    let report =
        Report { source: desired().source, plan: everything(), outcomes, problems: Vec::new(), complete: true };
    assert_snapshot!(summary(&report, Duration::from_millis(1_340), Style::PLAIN));
}

fn container(state: RunState) -> ObservedContainer {
    ObservedContainer {
        spec: serde_json::from_value(json!({"image": "web", "command": ["/usr/sbin/nginx"], "ports": ["8080:80"]}))
            .unwrap(),
        image: format!("sha256:{}", "a".repeat(64)).parse().unwrap(),
        record_lost: false,
        state,
        shim_alive: true,
        shim_trouble: None,
        rootfs_mounted: true,
        interfaces: None,
        limits: None,
        process: None,
        hosts: std::sync::Arc::default(),
        pids: None,
    }
}

#[test]
fn a_main_process_in_the_background_is_said_with_the_remedy() {
    let exit = Exit {
        code: 0,
        signal: None,
        oom_killed: false,
        daemonized: true,
        finished_at: "2026-03-01T11:59:57Z".to_owned(),
    };
    let state = RunState::Backoff { exit, restarts: 3, next_start_at: "2026-03-01T12:00:05Z".to_owned() };
    let mut observed = Observed::default();
    observed.containers.insert("web".parse().unwrap(), Sight::Found { observed: container(state), owned: true });
    let rows = container_rows(&Desired::default(), &observed, CLOCK);
    assert_eq!(rows[0].state, "restarting in 5s: exited with status 0: its main process went to the background");
    assert_eq!(rows[0].hint.as_deref(), Some("run nginx in the foreground: nginx -g 'daemon off;'"));
    assert_eq!(rows[0].restarts, 3);
}

#[test]
fn a_running_container_shows_its_health() {
    let state = RunState::Running {
        pid: 7,
        started_at: "2026-03-01T11:00:00Z".to_owned(),
        restarts: 0,
        health: HealthState::Unhealthy,
    };
    assert_eq!(phase_words(&container(state), CLOCK), "running (unhealthy)");
}

#[test]
fn lengths_of_time_have_two_units_at_most() {
    let said: Vec<String> = [0, 4, 200, 7_200, 97_261, -3].into_iter().map(span).collect();
    assert_eq!(said, ["0s", "4s", "3m 20s", "2h", "1d 3h", "0s"]);
}

#[test]
fn color_only_where_it_is_wanted() {
    let report = DriftReport::new(&desired(), &everything(), &[], Vec::new());
    assert!(!report.text(CLOCK, Style::PLAIN).contains('\x1b'));
    assert!(report.text(CLOCK, Style::new(true)).contains("\x1b[31m"));
}
