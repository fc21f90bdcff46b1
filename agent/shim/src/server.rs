//! The control socket: requests in, one JSON object a line; replies out, likewise.
//!
//! Understands no request; the supervisor does, and replies when it has something to say.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use evenkeel_shim::{Reply, Request};

/// Bytes of one request at most.
const LONGEST_REQUEST: usize = 16 * 1024;
/// Connections at once; the agent needs one, and a few verbs one each.
const MOST_CONNECTIONS: usize = 32;

/// Names a connection as long as the shim lives.
pub type ConnectionId = u64;

/// The listening socket with its connections.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    connections: Vec<Connection>,
    next_id: ConnectionId,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    stream: UnixStream,
    input: Vec<u8>,
    /// The other side will send no more, and may still wait for its reply.
    input_ended: bool,
    /// Requests not answered yet.
    unanswered: usize,
}

impl Server {
    /// Takes a listening socket that does not block.
    pub fn new(listener: UnixListener) -> Self {
        Server { listener, connections: Vec::new(), next_id: 0 }
    }

    /// Takes another listening socket in the place of the first. Connections stay.
    pub fn listen_on(&mut self, listener: UnixListener) {
        self.listener = listener;
    }

    /// Gives what is to be polled.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let open = self.connections.iter().filter(|connection| !connection.input_ended);
        std::iter::once(self.listener.as_raw_fd()).chain(open.map(|connection| connection.stream.as_raw_fd()))
    }

    /// Accepts connections and takes the requests that have arrived whole, the unreadable ones as `None`.
    pub fn take_requests(&mut self) -> Vec<(ConnectionId, Option<Request>)> {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() < MOST_CONNECTIONS && stream.set_nonblocking(true).is_ok() {
                let id = self.next_id;
                self.connections.push(Connection { id, stream, input: Vec::new(), input_ended: false, unanswered: 0 });
                self.next_id += 1;
            }
        }
        let mut requests = Vec::new();
        self.connections.retain_mut(|connection| {
            connection.input_ended |= connection.read().is_err();
            while let Some(end) = connection.input.iter().position(|byte| *byte == b'\n') {
                requests.push((connection.id, serde_json::from_slice(&connection.input[..end]).ok()));
                connection.input.drain(..=end);
                connection.unanswered += 1;
            }
            connection.input.len() < LONGEST_REQUEST && (!connection.input_ended || connection.unanswered > 0)
        });
        requests
    }

    /// Answers; who has gone away meanwhile, or does not read, gets nothing.
    pub fn reply(&mut self, id: ConnectionId, reply: &Reply) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else { return };
        let Ok(mut text) = serde_json::to_vec(reply) else { return };
        text.push(b'\n');
        let connection = &mut self.connections[index];
        connection.unanswered = connection.unanswered.saturating_sub(1);
        let gone = connection.stream.write_all(&text).is_err();
        if gone || (connection.input_ended && connection.unanswered == 0) {
            self.connections.swap_remove(index);
        }
    }
}

impl Connection {
    /// Reads what is there; an error is the connection's end.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while self.input.len() < LONGEST_REQUEST {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
