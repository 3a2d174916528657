//! The limit: a process that writes the same bytes to every socket, one blocking `write()` after the
//! other, and does nothing else.
//!
//! One client that never reads would hold up all: it cannot be compared with such.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::blocks;
use super::load::Greeting;
use super::peer::{Bounds, Peer};
use super::process::Server;

pub const ROLE: &str = "write-loop";
/// What its input says: write a block to all, or close all.
const BLOCK: u8 = b'b';
const FORGET: u8 = b'f';
const UPGRADED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

pub struct WriteLoop(Server);

impl WriteLoop {
    pub fn start(transactions: usize) -> anyhow::Result<Self> {
        Ok(Self(Server::start_own(ROLE, transactions)?))
    }
}

impl Peer for WriteLoop {
    fn bounds(&self) -> Bounds {
        Bounds { takes_stalled: false, ..Bounds::default() }
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.0.pid()]
    }

    fn address(&self) -> SocketAddr {
        self.0.address
    }

    fn greeting(&self) -> Greeting {
        Greeting::to("/")
    }

    fn send(&mut self) -> LocalBoxFuture<'_, anyhow::Result<()>> {
        async { self.0.nudge(BLOCK) }.boxed_local()
    }

    fn forget_clients(&mut self) -> anyhow::Result<()> {
        self.0.nudge(FORGET)
    }
}

/// The process itself: does what each byte of its input says.
pub fn serve(transactions: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    println!("{}", listener.local_addr().expect("an address"));
    let sockets = Mutex::new(Vec::new());
    // Frames such as the service's, so that the load client has the same work.
    let text = blocks::event();
    let length = u16::try_from(text.len()).expect("short").to_be_bytes();
    let frame = [&[0x81, 126][..], &length, text.as_bytes()].concat();
    let block = frame.repeat(transactions);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let socket = listener.accept().expect("a client").0;
                // In the list before its client is told.
                sockets.lock().expect("whole").push(accept(&socket));
                (&socket).write_all(UPGRADED).expect("written");
            }
        });
        for word in std::io::stdin().lock().bytes().map_while(Result::ok) {
            let mut sockets = sockets.lock().expect("whole");
            match word {
                FORGET => sockets.clear(),
                _ => sockets.iter_mut().for_each(|socket: &mut TcpStream| {
                    socket.write_all(&block).expect("written");
                }),
            }
        }
        std::process::exit(0);
    });
}

/// Reads the request to its end; yields where to write.
fn accept(socket: &TcpStream) -> TcpStream {
    let head = BufReader::new(socket).lines().map_while(Result::ok);
    head.take_while(|line| !line.is_empty()).for_each(drop);
    socket.try_clone().expect("a descriptor")
}
