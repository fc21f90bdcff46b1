use serde_json::{Value, json};

use super::*;

/// Gives the state that follows from a phase as a status file has it, after many restarts, with no shim alive.
fn left_behind(phase: Value) -> RunState {
    let mut status = json!({"id": "web", "shimPid": 1, "shimStartTime": 0, "restarts": 9, "health": "none"});
    status["phase"] = phase;
    run_state(serde_json::from_value(status).unwrap(), false)
}

#[test]
fn a_container_was_given_up_only_where_its_shim_said_so() {
    let exit = json!({"code": 1, "signal": null, "oomKilled": false, "daemonized": false, "finishedAt": "then"});
    let gave_up = |state: RunState| match state {
        RunState::Exited { gave_up, .. } | RunState::Failed { gave_up, .. } => gave_up,
        other => panic!("{other:?}"),
    };
    for (phase, expected) in [
        (json!({"phase": "backoff", "exit": exit, "nextStartAt": "soon"}), false),
        (json!({"phase": "running", "pid": u32::MAX, "startTime": 1, "startedAt": "then"}), false),
        (json!({"phase": "exited", "exit": exit}), false),
        (json!({"phase": "exited", "exit": exit, "gaveUp": true}), true),
        (json!({"phase": "failed", "message": "no", "nextStartAt": null}), false),
        (json!({"phase": "failed", "message": "no", "nextStartAt": null, "gaveUp": true}), true),
    ] {
        assert_eq!(gave_up(left_behind(phase.clone())), expected, "{phase}");
    }
}
