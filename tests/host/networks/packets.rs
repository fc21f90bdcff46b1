//! Servers and clients inside network namespaces, for asking who reaches whom.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// How long a client waits for an answer that has to come.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client waits for an answer that must not come.
pub const SILENCE: Duration = Duration::from_millis(700);

/// Does something in a namespace, or here; a socket stays where it was opened.
pub fn inside<T: Send>(netns: Option<&Path>, deed: impl FnOnce() -> T + Send) -> T {
    let namespace = netns.map(|path| std::fs::File::open(path).expect("a namespace"));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(namespace) = namespace {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).expect("into the namespace");
            }
            deed()
        });
        thread.join().expect("the deed")
    })
}

/// Serves `<name> sees <peer's address>` on a TCP and a UDP port, on every address, until the test ends.
pub fn serve(netns: Option<&Path>, name: &'static str, port: u16) {
    let (listener, socket) = inside(netns, || {
        (TcpListener::bind(("::", port)).expect("a TCP port"), UdpSocket::bind(("::", port)).expect("a UDP port"))
    });
    let says = move |peer: SocketAddr| format!("{name} sees {}", peer.ip().to_canonical());
    std::thread::spawn(move || {
        for connection in listener.incoming().filter_map(Result::ok) {
            answer(connection, says);
        }
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(says(peer).as_bytes(), peer));
        }
    });
}

fn answer(mut connection: TcpStream, says: impl Fn(SocketAddr) -> String) {
    if let Ok(peer) = connection.peer_addr() {
        drop(connection.write_all(says(peer).as_bytes()));
    }
}

/// Sends one datagram and tells whether it arrives at a port of a namespace in this time, answered or not.
pub fn arrives(from: Option<&Path>, to: (&str, u16), at: Option<&Path>, port: u16, patience: Duration) -> bool {
    let receiver = inside(at, || UdpSocket::bind(("::", port)).expect("a UDP port"));
    receiver.set_read_timeout(Some(patience)).expect("a timeout");
    let to: SocketAddr = SocketAddr::new(to.0.parse().expect("an address"), to.1);
    inside(from, || {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).expect("a socket");
        socket.send_to(b"!", to).expect("sent");
    });
    receiver.recv(&mut [0; 8]).is_ok()
}

/// Asks over TCP and UDP at once; both have to say the same.
pub fn ask(netns: Option<&Path>, server: &str, port: u16, patience: Duration) -> io::Result<String> {
    let server: IpAddr = server.parse().expect("an address");
    let (tcp, udp) = std::thread::scope(|scope| {
        let tcp = scope.spawn(|| inside(netns, || ask_tcp(server, port, patience)));
        let udp = inside(netns, || ask_udp(server, port, patience));
        (tcp.join().expect("the client"), udp)
    });
    match (tcp, udp) {
        (Ok(tcp), Ok(udp)) => {
            assert_eq!(tcp, udp, "TCP and UDP went different ways to {server} port {port}");
            Ok(tcp)
        }
        (Err(error), Err(_)) => Err(error),
        (tcp, udp) => panic!("only one came through to {server} port {port}: TCP {tcp:?}, UDP {udp:?}"),
    }
}

fn ask_tcp(server: IpAddr, port: u16, patience: Duration) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&SocketAddr::new(server, port), patience)?;
    connection.set_read_timeout(Some(patience))?;
    let mut said = String::new();
    connection.read_to_string(&mut said)?;
    Ok(said)
}

fn ask_udp(server: IpAddr, port: u16, patience: Duration) -> io::Result<String> {
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(patience))?;
    socket.connect((server, port))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
