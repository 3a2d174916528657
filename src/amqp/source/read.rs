//! Reading: each message handed on, in order, until that ends.

use std::convert::Infallible;

use super::feed::{Feed, SourcePlace};
use super::interruption::Interruption;
use crate::amqp::connection::Connection;
use crate::amqp::consumer::{self, Consumer};
use crate::amqp::window::Window;
use crate::amqp::{Delivery, Input};
use crate::config::QueueMode;

impl Feed {
    pub async fn read(
        &mut self,
        connection: &Connection,
        mut consumer: Consumer,
    ) -> Result<Infallible, Interruption> {
        let window = Window::new(self.config.prefetch);
        loop {
            let delivery = tokio::select! {
                biased;
                () = self.start_over.notified() => {
                    consumer.close().await;
                    return Err(Interruption::StartOver);
                }
                delivery = self.next(connection, &mut consumer, &window) => delivery?,
            };
            self.hand_on(delivery).await?;
        }
    }

    pub async fn hand_on(&mut self, delivery: Delivery) -> Result<(), Interruption> {
        match (self.config.queue.mode, delivery.offset) {
            (QueueMode::Queue, None) => self.send(Input::Delivery(delivery)).await,
            (QueueMode::Stream, Some(offset)) => {
                let body = delivery.body.clone();
                self.send(Input::Delivery(delivery)).await?;
                self.place = SourcePlace::Taken { offset, body };
                self.catch_up_at(offset).await
            }
            (QueueMode::Queue, Some(_)) => Err(self.other_type("it is a stream")),
            (QueueMode::Stream, None) => Err(self.other_type(consumer::NOT_A_STREAM)),
        }
    }

    pub async fn catch_up_at(&mut self, offset: u64) -> Result<(), Interruption> {
        if self.tail.is_some_and(|tail| offset >= tail) {
            self.send(Input::CaughtUp).await?;
            self.tail = None;
        }
        Ok(())
    }
}
