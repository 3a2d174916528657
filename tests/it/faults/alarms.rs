//! A broker that is short of something, or that does not know us any more.

use std::time::Duration;

use blockcast::config::{AmqpUri, Config};
use tokio::task::block_in_place;

use crate::support::alarms::{ALARMS, Alarm, publishers_are_blocked};
use crate::support::broker::Broker;
use crate::support::chain::{body, event, publish};
use crate::support::client::Client;
use crate::support::load::{Pace, Producer, all_have_the_chain, followers};
use crate::support::process::Process;
use crate::support::program::Program;
use crate::support::proxy::{NOWHERE, Proxy, behind_proxy};
use crate::support::replica::config;

#[tokio::test(flavor = "multi_thread")]
async fn alarms_that_block_publishers_and_a_revoked_password_cost_no_block() {
    let broker = Broker::start_own();
    for alarm in ALARMS {
        println!("{}", alarm.name);
        alarm_blocks_publishers_only(&broker, &alarm).await;
    }
    revoked_is_told_and_waited_out(&broker).await;
}

async fn alarm_blocks_publishers_only(broker: &Broker, alarm: &Alarm) {
    let config = config(broker);
    let (_proxy, replica, mut client) = consumers_go_on(broker, &config, alarm).await;
    let newcomer = Process::start_ready(&config).await;
    newcomer.reaches(3).await;

    let blocked = tokio::spawn({
        let config = config.clone();
        async move { publish(&config, [body(4, "x"), body(5, "x")]).await }
    });
    publishers_are_blocked(broker).await;
    assert!(!blocked.is_finished(), "nothing is confirmed");
    who_publishes_is_told_and_waits(broker, alarm).await;
    blocked.await.expect("confirmed");
    assert_eq!(client.texts(2).await, [event(4, "x"), event(5, "x")]);
    for replica in [replica, newcomer] {
        replica.reaches(5).await;
        assert_eq!(replica.metric("blockcast_missing_blocks_total").await, 0.0);
        replica.stop().await;
    }
}

/// Raises the alarm: a replica behind a proxy, and its client, who have three blocks.
async fn consumers_go_on(
    broker: &Broker,
    config: &Config,
    alarm: &Alarm,
) -> (Proxy, Process, Client) {
    let (proxy, through) = behind_proxy(broker, config).await;
    let replica = Process::start_ready(&through).await;
    let mut client = Client::connect(&replica.url("valid_transactions")).await;
    publish(config, [body(1, "x")]).await;
    assert_eq!(client.text().await, event(1, "x"));
    // What it is to meet live under the alarm.
    proxy.lead_to(NOWHERE);
    proxy.cut();
    publish(config, [body(2, "x"), b"no block".to_vec(), body(3, "x")]).await;
    alarm.raise(broker).await;
    proxy.lead_to(([127, 0, 0, 1], broker.port()).into());
    assert_eq!(client.texts(2).await, [event(2, "x"), event(3, "x")], "consumers go on");
    // The letter is given up, so that the feed is not.
    assert_eq!(replica.metric("blockcast_dead_letters_failed_total").await, 1.0);
    replica.logs("it could not be dead-lettered").await;
    (proxy, replica, client)
}

/// A person, elsewhere at this broker, until the alarm is cleared.
async fn who_publishes_is_told_and_waits(broker: &Broker, alarm: &Alarm) {
    let elsewhere = crate::support::replica::config(broker);
    let mut command = Program::new(["publish", "-"]).config(&elsewhere).start();
    command.write(&[body(1, "y"), b"\n".to_vec()].concat()).await;
    command.says("the broker takes no messages").await;
    alarm.clear(broker);
    command.says("the broker takes messages again").await;
    command.write(&body(2, "y")).await;
    let told = command.ended().await.with_code(0);
    told.telling(&["published and confirmed: 2 blocks"]);
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
