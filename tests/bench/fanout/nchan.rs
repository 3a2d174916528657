//! nginx with nchan, one worker: events are posted to its publisher one by one, a block's on one
//! connection.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::ensure;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::blocks;
use super::eventually::eventually;
use super::load::Greeting;
use super::peer::{Bounds, Peer};
use super::process;

const NGINX: &str = "/usr/sbin/nginx";
const MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";
/// Eight seconds of it.
const MESSAGES: usize = 1_000_000;

pub struct Nchan {
    address: SocketAddr,
    child: Child,
    transactions: usize,
}

impl Nchan {
    pub async fn start(transactions: usize) -> anyhow::Result<Self> {
        for file in [NGINX, MODULE] {
            ensure!(Path::new(file).exists(), "`make peers` could not install it");
        }
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench/nchan");
        std::fs::create_dir_all(&directory)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = directory.join("nginx.conf");
        std::fs::write(&config, configuration(&directory, address))?;
        let log = directory.join("error.log");
        let mut child = process::pinned(0, NGINX)
            .args(["-e", &log.display().to_string(), "-c", &config.display().to_string()])
            .spawn()?;
        let mut answers = false;
        eventually("nginx answers, or has ended", async || {
            answers = TcpStream::connect(address).await.is_ok();
            answers || matches!(child.try_wait(), Ok(Some(_)))
        })
        .await;
        let nchan = Self { address, child, transactions };
        ensure!(answers, "nginx does not start");
        Ok(nchan)
    }
}

impl Peer for Nchan {
    fn bounds(&self) -> Bounds {
        // It compiles nothing while it runs, so a block of eight seconds would be wasted on it.
        Bounds { messages: MESSAGES, warm_up: 0, ..Bounds::default() }
    }

    fn pids(&self) -> Vec<u32> {
        let master = self.child.id();
        let children = Command::new("pgrep").args(["-P", &master.to_string()]).output();
        let children = String::from_utf8(children.expect("pgrep").stdout).expect("numbers");
        let workers = children.lines().map(|pid| pid.parse().expect("a number"));
        std::iter::once(master).chain(workers).collect()
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn greeting(&self) -> Greeting {
        Greeting::to("/subscribe")
    }

    fn send(&mut self) -> LocalBoxFuture<'_, anyhow::Result<()>> {
        async {
            // nginx ends one that was idle for as long as others' turns take.
            let mut publisher = BufReader::new(TcpStream::connect(self.address).await?);
            publisher.get_ref().set_nodelay(true)?;
            let event = blocks::event();
            for _ in 0..self.transactions {
                publish(&mut publisher, &event).await?;
            }
            Ok(())
        }
        .boxed_local()
    }
}

impl Drop for Nchan {
    fn drop(&mut self) {
        process::end(&mut self.child);
    }
}

/// Posts one and reads the answer.
async fn publish(publisher: &mut BufReader<TcpStream>, event: &str) -> anyhow::Result<()> {
    let request = format!(
        "POST /publish HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{event}",
        event.len()
    );
    publisher.write_all(request.as_bytes()).await?;
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        publisher.read_line(&mut line).await?;
        if line == "\r\n" {
            break;
        }
        ensure!(!line.is_empty(), "closed instead of an answer");
        if let Some(length) = line.strip_prefix("Content-Length: ") {
            body_bytes = length.trim().parse()?;
        }
    }
    publisher.read_exact(&mut vec![0; body_bytes]).await?;
    Ok(())
}

/// All its files in the directory; a channel that keeps more than a block, for as long as one takes.
fn configuration(directory: &Path, address: SocketAddr) -> String {
    let directory = directory.display();
    format!(
        "load_module {MODULE};
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 100000000;
    nchan_shared_memory_size 256m;
    server {{
        listen {address} backlog=4096;
        location = /publish {{
            nchan_publisher http;
            nchan_channel_id blocks;
            nchan_message_buffer_length 2000;
            nchan_message_timeout 60s;
        }}
        location = /subscribe {{
            nchan_subscriber websocket;
            nchan_channel_id blocks;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"
    )
}
