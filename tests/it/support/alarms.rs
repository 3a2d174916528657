//! What a broker can be short of.

use tokio::task::block_in_place;

use super::broker::Broker;
use super::eventually::eventually;

/// What a broker is short of, and the words to its operator's tool that make it so.
pub struct Alarm {
    pub name: &'static str,
    on: &'static [&'static str],
    off: &'static [&'static str],
}

pub const ALARMS: [Alarm; 2] = [
    Alarm {
        name: "memory",
        on: &["set_vm_memory_high_watermark", "absolute", "1"],
        off: &["set_vm_memory_high_watermark", "0.6"],
    },
    Alarm {
        name: "disk",
        on: &["set_disk_free_limit", "1000000000000000"],
        off: &["set_disk_free_limit", "1MB"],
    },
];

impl Alarm {
    /// Waits until the broker has noticed.
    pub async fn raise(&self, broker: &Broker) {
        block_in_place(|| broker.rabbitmqctl(self.on));
        let alarms =
            || block_in_place(|| broker.rabbitmqctl(&["eval", "rabbit_alarm:get_alarms()."]));
        eventually("the alarm is on", async || alarms().contains("resource_limit")).await;
    }

    pub fn clear(&self, broker: &Broker) {
        block_in_place(|| broker.rabbitmqctl(self.off));
    }
}

/// Waits until the broker takes nothing from who publishes.
pub async fn publishers_are_blocked(broker: &Broker) {
    let states = || block_in_place(|| broker.rabbitmqctl(&["list_connections", "state"]));
    eventually("publishers are blocked", async || states().contains("blocked")).await;
}
