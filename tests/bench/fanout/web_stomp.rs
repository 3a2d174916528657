//! RabbitMQ itself as the server: its Web-STOMP plugin, a subscription and so a queue per client,
//! events published one by one.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;

use super::blocks;
use super::broker::Broker;
use super::exchange::Exchange;
use super::load::Greeting;
use super::peer::{Bounds, Peer};

const CLIENTS: usize = 100;
/// Seven seconds of it.
const MESSAGES: usize = 100_000;
const TOPIC: &str = "events";

/// A broker of its own on core 0, in use for all sizes of blocks.
pub struct Started {
    broker: Broker,
    address: SocketAddr,
}

pub struct WebStomp {
    started: Rc<Started>,
    exchange: Exchange,
    transactions: usize,
}

impl Started {
    pub async fn start() -> anyhow::Result<Self> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        // STOMP without WebSockets stays off.
        let advanced = format!(
            "[{{rabbitmq_stomp, [{{tcp_listeners, []}}]}}, \
             {{rabbitmq_web_stomp, [{{tcp_config, [{{ip, \"127.0.0.1\"}}, {{port, {}}}]}}]}}].",
            address.port()
        );
        let broker = Broker::start_on(0, "web-stomp", &["rabbitmq_web_stomp"], &advanced).await?;
        Ok(Self { broker, address })
    }
}

impl WebStomp {
    pub async fn attach(started: &Rc<Started>, transactions: usize) -> anyhow::Result<Self> {
        let exchange = Exchange::declare(&started.broker.uri, "amq.topic").await?;
        Ok(Self { started: Rc::clone(started), exchange, transactions })
    }
}

impl Peer for WebStomp {
    fn bounds(&self) -> Bounds {
        Bounds { clients: CLIENTS, messages: MESSAGES, warm_up: 0, ..Bounds::default() }
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.started.broker.pid()]
    }

    fn address(&self) -> SocketAddr {
        self.started.address
    }

    fn greeting(&self) -> Greeting {
        let connect = "CONNECT\naccept-version:1.2\nhost:/\nlogin:guest\npasscode:guest\nheart-beat:0,0\n\n\0";
        let subscribe = format!("SUBSCRIBE\nid:0\ndestination:/topic/{TOPIC}\nreceipt:0\n\n\0");
        Greeting {
            headers: "Sec-WebSocket-Protocol: v12.stomp\r\n",
            frames: [masked(connect), masked(&subscribe)].concat(),
            // CONNECTED and RECEIPT.
            replies: 2,
            ..Greeting::to("/ws")
        }
    }

    fn send(&mut self) -> LocalBoxFuture<'_, anyhow::Result<()>> {
        async {
            let event = blocks::event();
            for _ in 0..self.transactions {
                self.exchange.publish(TOPIC, event.as_bytes()).await?;
            }
            Ok(())
        }
        .boxed_local()
    }
}

/// A client's text frame; a mask of zeros changes nothing.
fn masked(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("short");
    assert!(length < 126, "a short frame");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}
