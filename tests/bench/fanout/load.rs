//! The load client: sockets that count whole frames and throw the bytes away.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet};

const UPGRADE: &str = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const READ_BYTES: usize = 256 * 1_024;
const TEXT: u8 = 0x81;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

pub struct Clients {
    local: LocalSet,
    shared: Rc<Shared>,
    count: usize,
    readers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Frames that each client has in all when it is done with a block.
    due: Cell<usize>,
    done: Cell<usize>,
    all_done: Notify,
    clients: Cell<usize>,
}

/// Finds the ends of frames in a stream of bytes.
#[derive(Default)]
struct Frames {
    /// Bytes of the current frame's payload still to come.
    left: usize,
    header: Vec<u8>,
    texts: usize,
}

impl Clients {
    pub async fn connect_plain(address: SocketAddr, count: usize) -> Self {
        Self::connect(address, (0..count).map(|_| None)).await
    }

    pub async fn connect_websocket(address: SocketAddr, count: usize) -> Self {
        Self::connect_asking(address, (0..count).map(|_| String::new())).await
    }

    /// A client of the stream for each of these queries, the question mark included.
    pub async fn connect_asking(
        address: SocketAddr,
        queries: impl IntoIterator<Item = String>,
    ) -> Self {
        Self::connect(address, queries.into_iter().map(Some)).await
    }

    async fn connect(address: SocketAddr, queries: impl Iterator<Item = Option<String>>) -> Self {
        let shared = Rc::new(Shared::default());
        let local = LocalSet::new();
        let mut readers = Vec::new();
        for query in queries {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            if let Some(query) = query {
                let request =
                    format!("GET /api/v1/streams/valid_transactions{query} HTTP/1.1\r\n{UPGRADE}");
                stream.write_all(request.as_bytes()).await.expect("written");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("an answer"));
                }
                assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
            }
            let shared = Rc::clone(&shared);
            readers.push(local.spawn_local(read(stream, shared)));
        }
        let count = readers.len();
        shared.clients.set(count);
        Self { local, shared, count, readers }
    }

    /// Waits until every client has `more` frames above what it was last asked for.
    pub async fn all_have(&mut self, more: usize) {
        let shared = Rc::clone(&self.shared);
        shared.due.set(shared.due.get() + more);
        self.local
            .run_until(async {
                while shared.done.get() < self.count {
                    shared.all_done.notified().await;
                }
            })
            .await;
        shared.done.set(0);
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
    }
}

async fn read(stream: TcpStream, shared: Rc<Shared>) {
    let mut frames = Frames::default();
    let mut due_before = 0;
    loop {
        stream.readable().await.expect("readable");
        let read = BUFFER.with_borrow_mut(|buffer| {
            let read = stream.try_read(buffer);
            if let Ok(count) = read {
                frames.take(&buffer[..count]);
            }
            read
        });
        match read {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        let due = shared.due.get();
        assert!(frames.texts <= due, "more frames than were due");
        if frames.texts == due && due > due_before {
            due_before = due;
            shared.done.set(shared.done.get() + 1);
            if shared.done.get() == shared.clients.get() {
                shared.all_done.notify_one();
            }
        }
    }
}

impl Frames {
    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let here = self.left.min(bytes.len());
                self.left -= here;
                bytes = &bytes[here..];
                continue;
            }
            // The common case: a whole header of four bytes.
            if let (true, [TEXT, 126, high, low, rest @ ..]) = (self.header.is_empty(), bytes) {
                self.left = usize::from(u16::from_be_bytes([*high, *low]));
                self.texts += 1;
                bytes = rest;
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            self.left = match self.header[..] {
                [_, length @ 0..=125] => usize::from(length),
                [_, 126, high, low] => usize::from(u16::from_be_bytes([high, low])),
                [_, 127, ..] => panic!("no block of this bench has such a frame"),
                _ => continue,
            };
            self.texts += usize::from(self.header[0] == TEXT);
            self.header.clear();
        }
    }
}
