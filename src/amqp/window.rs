//! Window of one consumer: the deliveries that are not settled yet. A broker that has handed over
//! `amqp.prefetch` of them waits, and so its silence says nothing.

use std::sync::Arc;

/// Counts one consumer's deliveries.
pub struct Window {
    len_max: usize,
    /// Cloned for each delivery.
    taken: Arc<()>,
}

/// Place of one delivery in its window, free when this is dropped.
#[derive(Debug)]
pub struct Seat {
    _taken: Arc<()>,
}

impl Window {
    pub fn new(prefetch: u16) -> Self {
        Self { len_max: prefetch.into(), taken: Arc::new(()) }
    }

    pub fn seat(&self) -> Seat {
        Seat { _taken: Arc::clone(&self.taken) }
    }

    /// Whether the broker waits until something is settled.
    pub fn is_full(&self) -> bool {
        Arc::strong_count(&self.taken) > self.len_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::Delivery;

    #[tokio::test]
    async fn a_window_is_full_until_a_delivery_is_settled_or_gone() {
        let window = Window::new(2);
        let delivery = || Delivery::detached("block", None).counted(&window);
        let (mut first, second) = (delivery(), delivery());
        assert!(window.is_full());
        first.settle().await;
        assert!(!window.is_full(), "though its body is kept");
        let third = delivery();
        assert!(window.is_full());
        drop((second, third));
        assert!(!window.is_full());
    }
}
