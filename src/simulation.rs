//! Replicas without a network, one after another: pipeline, sequencer, history and sessions as they
//! are, messages and clients drawn from a seed, the clock paused. Whatever happens, what a client
//! received, joined over its resumes, is a contiguous slice of the chain: what is left out was missing,
//! and told where that was asked for; nothing comes twice; and every end says why.
//!
//! Absent: AMQP, HTTP's connections, deep reads, threads, and time that passes by itself. So a seed is a story, and
//! the same one each time.
//!
//! By itself it tells the same stories each time. `BLOCKCAST_SIMULATION_STEPS` makes it longer and tells
//! others, `BLOCKCAST_SIMULATION_SEED` tells one story again.

mod chain;
mod client;
mod pipe;
mod slow_client;
mod tally;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::str::FromStr;

use fastrand::Rng;
use tally::{Seen, Tally};
use world::World;

/// A step is one thing that happens: a message handed over, bytes read, a client that comes.
const STEPS: u64 = 1_000_000;
/// Of one world; then the next seed's begins.
const WORLD_STEPS: u64 = 2_500;
const THREADS: u64 = 2;
/// Where the seeds begin when it is run as a test among others.
const SEED: u64 = 1;

/// Tells one seed's story.
fn tell(seed: u64) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    fastrand::seed(seed);
    runtime.block_on(async {
        let mut world = World::new(Rng::with_seed(seed));
        for _ in 0..WORLD_STEPS {
            world.step().await;
        }
        world.end().await
    })
}

/// Tells stories until `steps` have been taken.
fn tell_many(mut seeds: Rng, steps: u64) -> Tally {
    let mut all = Tally::default();
    while all.steps < steps {
        let seed = seeds.u64(..);
        match catch_unwind(AssertUnwindSafe(|| tell(seed))) {
            Ok(tally) => all.add(&tally),
            Err(panic) => {
                println!("after {} steps: BLOCKCAST_SIMULATION_SEED={seed}", all.steps);
                resume_unwind(panic);
            }
        }
    }
    all
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn what_clients_receive_is_the_chain_whatever_happens() {
    if let Some(seed) = variable("BLOCKCAST_SIMULATION_SEED") {
        println!("{:?}", tell(seed));
        return;
    }
    let asked = variable("BLOCKCAST_SIMULATION_STEPS");
    let steps = asked.unwrap_or(STEPS);
    // The same stories each time, unless more are asked for.
    let mut seeds = asked.map_or_else(|| Rng::with_seed(SEED), |_| Rng::new());
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                let seeds = seeds.fork();
                scope.spawn(move || tell_many(seeds, steps / THREADS))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a story went wrong")).collect()
    });
    let mut all = Tally::default();
    tallies.iter().for_each(|tally| all.add(tally));
    println!("{all:?}");
    if steps >= STEPS {
        let never: Vec<_> =
            Seen::ALL.into_iter().filter(|seen| !all.counts.contains_key(seen)).collect();
        assert!(never.is_empty(), "this has not come across {never:?}");
    }
}

#[test]
fn a_seed_tells_the_same_story_each_time() {
    for seed in 0..3 {
        assert_eq!(tell(seed), tell(seed), "of seed {seed}");
    }
}
