//! The events of one block that a subscription wants, some at a time.

use crate::filter::Lists;
use crate::frame::{EncodedBlock, SEPARATOR};
use crate::history::TakenBlock;
use crate::session::subscription::Subscription;

/// Events that are picked for one portion. Tests meet the bound with small blocks.
pub const PICKED_MAX: usize = if cfg!(test) { 3 } else { 1_024 };

/// Adds the block's events from `first` on that the subscription wants, as many as there is room for. Returns
/// whether there are more.
pub fn pick(
    subscription: &Subscription,
    cached: &TakenBlock,
    first: u32,
    room: usize,
    lists: &mut Lists,
    picked: &mut Vec<u32>,
) -> bool {
    match &subscription.filter {
        Some(filter) => {
            let index = cached.index().expect("bug: a filter's block has no index");
            filter.pick(index, first, room, lists, picked)
        }
        None => {
            let events = first..cached.block.events_len() as u32;
            picked.extend(events.clone().take(room));
            events.len() > room
        }
    }
}

/// The payloads of these events, each with a separator.
pub fn payload_bytes(block: &EncodedBlock, picked: &[u32]) -> usize {
    let payloads = picked.iter().map(|event| block.payload(*event as usize).len());
    payloads.sum::<usize>() + SEPARATOR.len() * picked.len()
}
