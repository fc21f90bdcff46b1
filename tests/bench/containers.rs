//! Starting containers and looking at them. What their supervisors cost is `shim-memory.sh`.

use std::time::Instant;

use evenkeel_tests::Sandbox;

use crate::compare;
use crate::peers::Runc;

/// Containers that are started in one go.
const COUNT: usize = 20;

/// Compares the start of containers, and times a pass with nothing to do.
pub fn starts(sandbox: &Sandbox) {
    sandbox.manifest("image.yaml", &sandbox.busybox_image());
    // The image first, so that only the containers are measured.
    sandbox.apply();
    let document = |index| {
        format!(
            "apiVersion: evenkeel/v1\nkind: Container\nmetadata: {{name: c{index}}}\nspec:\n  image: busybox\n  \
             command: [sleep, \"100000\"]\n  stopSignal: KILL\n"
        )
    };
    sandbox.manifest("containers.yaml", &(0..COUNT).map(document).collect::<Vec<_>>().join("---\n"));
    let seconds = |work: &dyn Fn()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };

    let ours = seconds(&|| drop(sandbox.apply()));
    let runc = Runc::prepare(sandbox, COUNT);
    compare(&format!("apply, {COUNT} new containers / runc run"), ours, Some(seconds(&|| runc.run_all())), "s");
    runc.delete_all();

    compare("apply, nothing to do", seconds(&|| drop(sandbox.apply())), None, "s");
    compare("drift", seconds(&|| drop(sandbox.evenkeel(&["drift"]).expect_code(0))), None, "s");
}
