//! The stream that is read from: RabbitMQ through [`Reader`], or one in memory for tests.

use crate::amqp::{self, Bounds, Message, ReadError, Reader};

/// Messages by offset, first to last. Offsets rise and have holes; more may come at the end, and
/// what is at the beginning may go.
pub trait ReadableStream: Send + Sync + 'static {
    type Messages: StreamMessages;

    /// See [`Reader::bounds`].
    fn bounds(&self) -> impl Future<Output = Result<Option<Bounds>, ReadError>> + Send;

    /// See [`Reader::peek`].
    fn peek(&self, offset: u64) -> impl Future<Output = Result<Vec<Message>, ReadError>> + Send;

    /// See [`Reader::read_from`].
    fn read_from(
        &self,
        offset: u64,
    ) -> impl Future<Output = Result<Self::Messages, ReadError>> + Send;

    /// See [`Reader::give_up`].
    fn give_up(&self);

    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Messages from a place on.
pub trait StreamMessages: Send {
    /// See [`amqp::Messages::next`].
    fn next(&mut self) -> impl Future<Output = Result<Message, ReadError>> + Send;
}

impl ReadableStream for Reader {
    type Messages = amqp::Messages;

    async fn bounds(&self) -> Result<Option<Bounds>, ReadError> {
        self.bounds().await
    }

    async fn peek(&self, offset: u64) -> Result<Vec<Message>, ReadError> {
        self.peek(offset).await
    }

    async fn read_from(&self, offset: u64) -> Result<amqp::Messages, ReadError> {
        self.read_from(offset).await
    }

    fn give_up(&self) {
        self.give_up();
    }

    async fn close(&self) {
        self.close().await;
    }
}

impl StreamMessages for amqp::Messages {
    async fn next(&mut self) -> Result<Message, ReadError> {
        self.next().await
    }
}
