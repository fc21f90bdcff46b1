//! The ring of whole virtual hosts: what takes a kernel, an init or a power supply of one's own to be shown.
//!
//! Each test boots machines of its own ([`evenkeel_tests::vm`]) in a sandbox of its own, from one disk image that none of them
//! changes. The console of each is kept in `target/vm/console`. `make test` runs all of it, `make test-vm` with more power cuts.

mod cgroups;
mod manifests;
mod power;
mod systemd;

use evenkeel_tests::vm::{self, Disk, Image, Init, Machine};
use evenkeel_tests::{Sandbox, sandboxed};

/// Prepares the image outside, and runs the test in namespaces of its own: qemu ends with them.
fn with_image(test: impl FnOnce(&Sandbox, &Image)) {
    let image = vm::prepare();
    sandboxed(|sandbox| test(sandbox, &image));
}

/// Runs a test on one machine with a fresh disk.
fn on_machine(init: Init, name: &str, test: impl FnOnce(&mut Machine)) {
    with_image(|_, image| {
        let disk = Disk::new(image.disk());
        let mut machine = Machine::boot(image, &disk, init, name);
        test(&mut machine);
        machine.power_off();
    });
}
