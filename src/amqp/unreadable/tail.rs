//! The end of a RabbitMQ stream whose last entries the broker cannot hand over, for a producer: only what
//! it publishes behind them lets readers pass them over. Nothing is proven here.

use lapin::types::ShortString;

use super::look::{COUNTED_WITHIN, first_unreadable, look};
use super::proof::ProofLook;
use crate::amqp::Message;
use crate::amqp::consumer::{self, Consumer, ConsumerStart, Consuming, ProbeError};
use crate::amqp::keeper::Keeper;

/// The last messages that can be read, oldest first: at least one, unless there is none. What stands
/// between two unreadable runs at the end may be left out.
///
/// Each unreadable place that is looked at costs a connection. The steps back from the end are doubled,
/// so there are few of them.
///
/// # Errors
/// The stream cannot be read for another reason.
///
/// # Cancel safety
/// Dropped, its connection may stay open in the keeper.
pub async fn last_readable(
    keeper: &Keeper,
    queue: &ShortString,
) -> Result<Vec<Message>, ProbeError> {
    // The connection on which a 541 came is not used again, even if it still looks open.
    keeper.close().await;
    let counted = consumer::count(&*keeper.connection().await?, queue).await?;
    let first =
        match look(keeper, queue, ConsumerStart::First, consumer::first_within(counted)).await? {
            ProofLook::Read(first) => first,
            ProofLook::Unreadable => first_unreadable(keeper, queue).await?,
            ProofLook::Silent => return Ok(Vec::new()),
        };
    let end = first.saturating_add(counted.into());
    let mut back = 1_u64;
    loop {
        let from = end.saturating_sub(back).max(first);
        let messages = read_from(keeper, queue, from).await?;
        if !messages.is_empty() || from == first {
            return Ok(messages);
        }
        back = back.saturating_mul(2);
    }
}

/// The messages from an offset on, up to the first that cannot be read; none at the stream's end.
async fn read_from(
    keeper: &Keeper,
    queue: &ShortString,
    offset: u64,
) -> Result<Vec<Message>, ProbeError> {
    let connection = keeper.connection().await?;
    // A prefetch of 1 has everything before an unreadable entry come.
    let consuming = Consuming { queue, prefetch: 1, start: Some(ConsumerStart::Offset(offset)) };
    let mut messages = Vec::new();
    let reading = async {
        let mut consumer = Consumer::open(&connection, consuming).await?;
        let each = |_, message| messages.extend(Message::of(message));
        consumer::read_until_quiet(&mut consumer, COUNTED_WITHIN, each).await
    };
    let read = reading.await;
    keeper.close().await;
    match read {
        Err(error) if error.is_unreadable() => Ok(messages),
        read => read.map(|()| messages),
    }
}
