//! A registry that misbehaves as a test says: a proxy in front of a sound one.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::registry::Registry;

/// What happens with a request, in place of the sound registry's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is read, and nothing is ever said.
    Silent,
    /// So many bytes of the body come, then nothing more; the connection stays.
    Stalls { after: usize },
    /// So many bytes of the body come, then the connection ends.
    CutOff { after: usize },
    /// Another answer: status line, header lines, body.
    Answers { status: String, headers: Vec<String>, body: Vec<u8> },
    /// The body is another one, its length as stated in the header.
    Body(Vec<u8>),
    /// A body without end.
    Endless,
    /// To itself, for ever.
    Redirects,
}

/// Gives an answer with a status of its own.
pub fn status(line: &str, headers: &[&str], body: &str) -> Fault {
    let headers = headers.iter().map(|header| (*header).to_owned()).collect();
    Fault::Answers { status: line.to_owned(), headers, body: body.as_bytes().to_vec() }
}

#[derive(Default)]
struct State {
    /// Faults by a part of the path, one after the other, and how many requests each still holds for.
    faults: BTreeMap<String, Vec<(Fault, usize)>>,
    requests: Vec<String>,
}

/// A running proxy; the connections end with the program that made them.
pub struct FaultyRegistry {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl FaultyRegistry {
    /// Starts a proxy on a free port of 127.0.0.1.
    pub fn before(registry: &Registry) -> FaultyRegistry {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of 127.0.0.1");
        let port = listener.local_addr().expect("its own address").port();
        let (state, upstream) = (Arc::<Mutex<State>>::default(), registry.address());
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (state, upstream) = (shared.clone(), upstream.clone());
                // A client that goes away in the midst of an answer is what several faults are about.
                std::thread::spawn(move || serve(stream, &state, &upstream).ok());
            }
        });
        FaultyRegistry { port, state }
    }

    /// Gives `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Puts a fault on every request whose line (`GET /v2/…`) has this part.
    pub fn set(&self, part: &str, fault: Fault) {
        self.state().faults.insert(part.to_owned(), vec![(fault, usize::MAX)]);
    }

    /// Puts each of the faults on one request, in their order; those that follow are answered soundly.
    pub fn set_in_turn<const N: usize>(&self, part: &str, faults: [Fault; N]) {
        let faults = faults.map(|fault| (fault, 1));
        self.state().faults.insert(part.to_owned(), faults.into());
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Gives the lines of the requests so far, `GET /v2/… bytes=5-`.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(mut client: TcpStream, state: &Mutex<State>, upstream: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while reader.read_line(&mut head).unwrap_or(0) > 2 {}
    let Some(first) = head.lines().next().and_then(|line| line.strip_suffix(" HTTP/1.1")) else {
        // TLS: a client on loopback tries plain text then.
        return client.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    };
    let range = head.lines().find_map(|line| line.strip_prefix("range: ")).unwrap_or_default();
    let fault = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push(format!("{first} {range}").trim_end().to_owned());
        let struck = state.faults.iter_mut().filter(|(part, _)| first.contains(part.as_str()));
        let found = struck.flat_map(|(_, faults)| faults).find(|(_, times)| *times > 0);
        found.map(|(fault, times)| {
            *times -= 1;
            fault.clone()
        })
    };
    let answer = |client: &mut TcpStream, status: &str, headers: &[String], body: &[u8]| {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        write!(client, "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n")?;
        client.write_all(body)
    };
    match fault {
        None => client.write_all(&ask(upstream, &head)?)?,
        Some(Fault::Silent) => linger(&mut client),
        Some(Fault::Stalls { after }) => {
            client.write_all(&cut(ask(upstream, &head)?, after))?;
            linger(&mut client);
        }
        Some(Fault::CutOff { after }) => client.write_all(&cut(ask(upstream, &head)?, after))?,
        Some(Fault::Answers { status, headers, body }) => answer(&mut client, &status, &headers, &body)?,
        Some(Fault::Body(body)) => answer(&mut client, "200 OK", &[], &body)?,
        Some(Fault::Redirects) => {
            let path = first.split(' ').nth(1).unwrap_or("/");
            let to = format!("location: {path}");
            answer(&mut client, "307 Temporary Redirect", &[to], b"")?;
        }
        Some(Fault::Endless) => {
            client.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            let begun = Instant::now();
            let chunk = [b' '; 64 * 1024];
            while begun.elapsed() < Duration::from_secs(60) {
                client.write_all(&chunk)?;
            }
        }
    }
    client.shutdown(Shutdown::Write)
}

/// Hands a request on and gives the whole answer, head and body.
fn ask(upstream: &str, head: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream)?;
    for line in head.lines().filter(|line| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:")) {
        stream.write_all(format!("{line}\r\n").as_bytes())?;
    }
    stream.write_all(b"connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// Keeps the head of an answer and so many bytes of its body.
fn cut(mut answer: Vec<u8>, after: usize) -> Vec<u8> {
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |at| at + 4);
    answer.truncate(head + after);
    answer
}

/// Says nothing until the client has gone.
fn linger(client: &mut TcpStream) {
    let mut byte = [0];
    while client.read(&mut byte).is_ok_and(|count| count > 0) {}
}
