//! The server that qemu has its disk from: the NBD protocol as far as qemu speaks it.
//!
//! Fixed newstyle negotiation, simple replies, reads, writes and flushes (the protocol's `doc/proto.md`). Force unit access is not
//! offered, so that qemu makes a flush of it.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use super::disk::Disk;

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT";
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

/// Handshake flags: fixed newstyle, and no padding.
const HANDSHAKE: u16 = 0b11;
/// Transmission flags: there are flags, and flushes are understood.
const TRANSMISSION: u16 = 0b101;

const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACKNOWLEDGED: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;

/// Serves a disk at a socket to one machine, until that hangs up.
pub(super) fn serve(disk: &Disk, socket: &Path) -> io::Result<JoinHandle<()>> {
    let listener = UnixListener::bind(socket)?;
    let disk = disk.clone();
    Ok(std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        // A machine that is killed hangs up in the middle of anything.
        let _ = negotiate(&disk, &mut stream).and_then(|()| transmit(&disk, &mut stream));
    }))
}

fn negotiate(disk: &Disk, stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(GREETING)?;
    stream.write_all(&HANDSHAKE.to_be_bytes())?;
    let _client_flags = number32(stream)?;
    loop {
        let _magic = number64(stream)?;
        let option = number32(stream)?;
        let mut data = vec![0; number32(stream)? as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPTION_GO => {
                // NBD_INFO_EXPORT is number 0.
                let export =
                    [&0u16.to_be_bytes()[..], &disk.size().to_be_bytes(), &TRANSMISSION.to_be_bytes()].concat();
                answer(stream, option, REPLY_INFO, &export)?;
                return answer(stream, option, REPLY_ACKNOWLEDGED, &[]);
            }
            OPTION_ABORT => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => answer(stream, option, REPLY_UNSUPPORTED, &[])?,
        }
    }
}

fn answer(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u32).to_be_bytes();
    let head = [&OPTION_REPLY.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes(), &length];
    stream.write_all(&[&head.concat(), data].concat())
}

fn transmit(disk: &Disk, stream: &mut UnixStream) -> io::Result<()> {
    loop {
        if number32(stream)? != REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let kind = (number32(stream)? & 0xffff) as u16;
        let cookie = number64(stream)?;
        let offset = number64(stream)?;
        let length = number32(stream)? as usize;
        let mut data = Vec::new();
        let done = match kind {
            READ => {
                data.resize(length, 0);
                disk.read(&mut data, offset)
            }
            WRITE => {
                let mut written = vec![0; length];
                stream.read_exact(&mut written)?;
                disk.write(&written, offset)
            }
            FLUSH => {
                disk.flush();
                Ok(())
            }
            DISCONNECT => return Ok(()),
            // It has the same number in the protocol.
            _ => Err(nix::errno::Errno::EINVAL.into()),
        };
        let error = done.map_or_else(|error| error.raw_os_error().unwrap_or(5) as u32, |()| 0);
        if error != 0 {
            data.clear();
        }
        let head = [&REPLY.to_be_bytes()[..], &error.to_be_bytes(), &cookie.to_be_bytes()].concat();
        stream.write_all(&[head, data].concat())?;
    }
}

fn number32(stream: &mut UnixStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn number64(stream: &mut UnixStream) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}
