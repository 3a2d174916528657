//! The limit: a process that writes the same bytes to every socket, one blocking `write()` after the
//! other, and does nothing else.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Stdio};

use super::{CLIENTS, process};

pub struct Server {
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    pub async fn start(block_bytes: usize) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = process::pinned(0, &program.display().to_string())
            .args(["write-loop", &block_bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("a line");
        Self { address: line.trim().parse().expect("an address"), child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes it write one block to every client.
    pub fn write_block(&mut self) {
        self.child.stdin.as_mut().expect("its input").write_all(b"\n").expect("written");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The process itself: accepts all clients, then writes a block for each byte of its input.
pub fn serve(block_bytes: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    println!("{}", listener.local_addr().expect("an address"));
    let mut sockets: Vec<_> =
        (0..CLIENTS).map(|_| listener.accept().expect("a client").0).collect();
    // Frames such as the service's, so that the load client has the same work.
    let frame = [&[0x81, 126, 0, 180][..], &[b'x'; 180]].concat();
    let block = frame.repeat(block_bytes / frame.len());
    let mut input = std::io::stdin().lock();
    while input.read_exact(&mut [0]).is_ok() {
        for socket in &mut sockets {
            socket.write_all(&block).expect("written");
        }
    }
}
