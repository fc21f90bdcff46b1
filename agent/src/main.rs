//! The program `evenkeel`.

fn main() {
    let mut arguments = std::env::args_os();
    // Before any thread exists: the runtime clones this process (see `evenkeel::oci`).
    if std::env::args_os().nth(1).is_some_and(|verb| verb == "oci") {
        arguments.next();
        std::process::exit(evenkeel::oci::run(arguments));
    }
}
