//! The test's hand in a virtual machine: runs the lines of shell that come over the virtual serial port, one after another.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use evenkeel_tests::vm::message::{Order, PORT, Word};

fn main() -> io::Result<()> {
    let port = File::options().read(true).write(true).open(Path::new("/dev/virtio-ports").join(PORT))?;
    let mut answers = port.try_clone()?;
    say(&mut answers, &Word::Ready)?;
    for line in BufReader::new(port).lines() {
        let order: Order = serde_json::from_str(&line?)?;
        say(&mut answers, &carry_out(&order.line)?)?;
    }
    Ok(())
}

/// Its output goes through files: what a line leaves in the background may hold them open for ever.
fn carry_out(line: &str) -> io::Result<Word> {
    let (stdout, stderr) = ("/run/evenkeel-test-stdout", "/run/evenkeel-test-stderr");
    let status = Command::new("sh")
        .args(["-c", line])
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(File::create(stdout)?)
        .stderr(File::create(stderr)?)
        .status()?;
    let text = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Word::Done { code: status.code(), stdout: text(stdout)?, stderr: text(stderr)? })
}

fn say(port: &mut File, word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    port.write_all(&line)
}
