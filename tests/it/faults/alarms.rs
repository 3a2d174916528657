//! A broker that is short of something, or that does not know us any more.

use std::time::Duration;

use blockcast::config::AmqpUri;
use tokio::task::block_in_place;

use super::link::{NOWHERE, behind_proxy};
use crate::broker::Broker;
use crate::chain::{body, event, publish};
use crate::client::Client;
use crate::eventually::eventually;
use crate::load::{Pace, Producer, all_have_the_chain, followers};
use crate::process::Process;
use crate::replica::config;

#[tokio::test(flavor = "multi_thread")]
async fn alarms_that_block_publishers_and_a_revoked_password_cost_no_block() {
    let broker = Broker::start_own();
    let alarms: [(&str, &[&str], &[&str]); 2] = [
        (
            "memory",
            &["set_vm_memory_high_watermark", "absolute", "1"],
            &["set_vm_memory_high_watermark", "0.6"],
        ),
        ("disk", &["set_disk_free_limit", "1000000000000000"], &["set_disk_free_limit", "1MB"]),
    ];
    for (name, on, off) in alarms {
        println!("{name}");
        alarm_blocks_publishers_only(&broker, on, off).await;
    }
    revoked_is_told_and_waited_out(&broker).await;
}

async fn alarm_blocks_publishers_only(broker: &Broker, on: &[&str], off: &[&str]) {
    let config = config(broker);
    let (proxy, through) = behind_proxy(broker, &config).await;
    let replica = Process::start_ready(&through).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(&config, [body(1, "x")]).await;
    assert_eq!(client.text().await, event(1, "x"));
    // What it is to meet live under the alarm.
    proxy.lead_to(NOWHERE);
    proxy.cut();
    publish(&config, [body(2, "x"), b"no block".to_vec(), body(3, "x")]).await;
    block_in_place(|| broker.rabbitmqctl(on));
    let alarms = || block_in_place(|| broker.rabbitmqctl(&["eval", "rabbit_alarm:get_alarms()."]));
    eventually("the alarm is on", async || alarms().contains("resource_limit")).await;
    proxy.lead_to(([127, 0, 0, 1], broker.port()).into());
    assert_eq!(client.texts(2).await, [event(2, "x"), event(3, "x")], "consumers go on");
    // The letter is given up, so that the feed is not.
    assert_eq!(replica.metric("blockcast_dead_letters_failed_total").await, 1.0);
    replica.logs("it could not be dead-lettered").await;
    let newcomer = Process::start_ready(&config).await;
    newcomer.reaches(3).await;

    let blocked = tokio::spawn({
        let config = config.clone();
        async move { publish(&config, [body(4, "x"), body(5, "x")]).await }
    });
    let states = || block_in_place(|| broker.rabbitmqctl(&["list_connections", "state"]));
    eventually("publishers are blocked", async || states().contains("blocked")).await;
    assert!(!blocked.is_finished(), "nothing is confirmed");
    block_in_place(|| broker.rabbitmqctl(off));
    blocked.await.expect("confirmed");
    assert_eq!(client.texts(2).await, [event(4, "x"), event(5, "x")]);
    for replica in [replica, newcomer] {
        replica.reaches(5).await;
        assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
        replica.stop().await;
    }
}

async fn revoked_is_told_and_waited_out(broker: &Broker) {
    let operator = |arguments: &[&str]| block_in_place(|| broker.rabbitmqctl(arguments));
    operator(&["add_user", "bridge", "first"]);
    operator(&["set_permissions", "bridge", ".*", ".*", ".*"]);
    let config = config(broker);
    let mut as_bridge = config.clone();
    as_bridge.amqp.uris =
        vec![AmqpUri::new(format!("amqp://bridge:first@127.0.0.1:{}/%2f", broker.port()))];
    let replica = Process::start_ready(&as_bridge).await;
    let mut producer =
        Producer::start(&config, Pace { blocks: 5, every: Duration::from_millis(20) });
    let clients = followers(&[replica.url("valid_transactions")], 5);
    producer.confirms(50).await;
    operator(&["change_password", "bridge", "second"]);
    operator(&["close_all_connections", "revoked"]);
    replica.logs("ACCESS_REFUSED").await;
    assert_eq!(replica.metric("blockcast_amqp_connected").await, 0.0);
    assert_eq!(replica.logged("first").len(), 0, "the password is told to nobody");
    producer.confirms(50).await;
    operator(&["change_password", "bridge", "first"]);
    replica.reaches(producer.confirms(50).await).await;
    all_have_the_chain(clients, producer.end().await).await;
    replica.stop().await;
}
