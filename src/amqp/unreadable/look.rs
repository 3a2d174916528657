//! Looks at single offsets of a RabbitMQ stream, each over a connection of its own: what the broker
//! cannot hand over ends the connection, with all that it carries.

use std::time::Duration;

use lapin::types::ShortString;
use tokio::time::timeout;

use super::proof::ProofLook;
use crate::amqp::consumer::{self, Consumer, ConsumerStart, Consuming, ProbeError};
use crate::amqp::keeper::Keeper;

/// How long an entry may take that is there; the broker may have to read its disk.
pub const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long a place may take that may lie behind the stream's end: the search for the first entry looks
/// there, and who goes by the broker's count, which lags.
pub const COUNTED_WITHIN: Duration = Duration::from_secs(2);
/// A stream that was never trimmed begins at 0. So a run that ends below this offset is looked at from
/// there on, entry by entry: what does not exist is taken for unreadable only in a stream that was
/// trimmed to an unreadable entry among its first ones.
const ENTRIES_FROM_0_MAX: u64 = 1_024;

/// No stream comes so far. A broker that answers 541 to everything has the search end here.
const OFFSETS_MAX: u64 = 1 << 62;

/// Attaches to one offset alone and waits for its answer.
///
/// # Errors
/// Whatever else came: it proves nothing, and a proof under way begins again.
///
/// # Cancel safety
/// Dropped, its connection may stay open in the keeper.
pub async fn look(
    keeper: &Keeper,
    queue: &ShortString,
    start: ConsumerStart,
    within: Duration,
) -> Result<ProofLook, ProbeError> {
    // Not over one that carried another look: a late 541 would be taken for an answer to this one.
    keeper.close().await;
    let connection = keeper.connection().await?;
    let consuming = Consuming { queue, prefetch: 1, start: Some(start) };
    let mut consumer = match Consumer::open(&connection, consuming).await {
        Ok(consumer) => consumer,
        // The end overtook the answer to the attach.
        Err(error) if error.is_unreadable() => return Ok(ProofLook::Unreadable),
        Err(error) => return Err(error.into()),
    };
    let answer = timeout(within, consumer.next()).await;
    keeper.close().await;
    match answer {
        Ok(Ok(message)) => {
            let offset = consumer::offset_of(&message.properties);
            Ok(ProofLook::Read(offset.ok_or(ProbeError::NotAStream)?))
        }
        Ok(Err(ended)) if ended.is_unreadable() => Ok(ProofLook::Unreadable),
        Ok(Err(ended)) => Err(ended.into()),
        Err(_) => Ok(ProofLook::Silent),
    }
}

/// The offset to begin a proof with when a stream's first entry is unreadable: which offset that has
/// cannot be asked, since an attach below it is moved to it.
///
/// # Errors
/// As those of [`look`].
pub async fn first_unreadable(keeper: &Keeper, queue: &ShortString) -> Result<u64, ProbeError> {
    let at =
        async |offset| look(keeper, queue, ConsumerStart::Offset(offset), COUNTED_WITHIN).await;
    let (mut unreadable, mut other) = (0, 1);
    while other < OFFSETS_MAX && at(other).await? == ProofLook::Unreadable {
        (unreadable, other) = (other, 2 * other);
    }
    while other - unreadable > 1 {
        let middle = unreadable.midpoint(other);
        match at(middle).await? {
            ProofLook::Unreadable => unreadable = middle,
            ProofLook::Read(_) | ProofLook::Silent => other = middle,
        }
    }
    Ok(if unreadable < ENTRIES_FROM_0_MAX { 0 } else { unreadable })
}
