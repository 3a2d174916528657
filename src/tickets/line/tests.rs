use fastrand::Rng;

use super::*;

fn network(number: usize) -> IpAddr {
    IpAddr::from((number as u32).to_be_bytes())
}

/// What happens to a line, each a second after the one before.
#[derive(Debug, Clone, Copy)]
enum Happens {
    /// Somebody comes: the network, the name, and the seconds that it has had.
    Comes(usize, &'static str, u64),
    Leaves(usize, &'static str),
    /// A turn is free, and this one is called.
    Calls(&'static str),
    /// A turn of this network is over.
    Ends(usize),
}

use Happens::{Calls, Comes, Ends, Leaves};

#[track_caller]
fn check(story: &[Happens]) {
    let mut line = Line::default();
    let mut places = HashMap::new();
    let began = Instant::now();
    for (second, happens) in (0..).zip(story) {
        let now = began + Duration::from_secs(second);
        match *happens {
            Comes(from, name, had) => {
                let place = line.join(network(from), Duration::from_secs(had), now, name);
                places.insert(name, place);
            }
            Leaves(from, name) => {
                assert_eq!(line.leave(network(from), places[name]), Some(name), "{story:?}");
            }
            Calls(name) => {
                let called = line.call().map(|(_, called)| called);
                assert_eq!(called, Some(name), "second {second} of {story:?}");
            }
            Ends(from) => line.end_turn(network(from)),
        }
    }
}

#[test]
fn networks_take_turns() {
    // Of one network, in the order in which they came.
    check(&[Comes(1, "a", 0), Comes(1, "b", 0), Calls("a"), Calls("b")]);
    // The second of a network is behind the first of another.
    check(&[Comes(1, "a", 0), Comes(1, "b", 0), Comes(2, "c", 0), Calls("a"), Calls("c")]);
    // The same when the first has had its turn: the other network has waited for longer.
    check(&[
        Comes(1, "a", 0),
        Comes(1, "b", 0),
        Calls("a"),
        Comes(2, "c", 0),
        Comes(3, "d", 0),
        Ends(1),
        Calls("c"),
        Calls("d"),
        Calls("b"),
    ]);
    // One that has a turn and comes again is behind those that have none.
    check(&[Comes(1, "a", 0), Calls("a"), Comes(1, "b", 0), Comes(2, "c", 0), Calls("c")]);
    // Leaving the line is no reason to be forgotten while a turn goes on.
    check(&[
        Comes(1, "a", 0),
        Comes(1, "b", 0),
        Calls("a"),
        Leaves(1, "b"),
        Comes(2, "c", 0),
        Comes(1, "d", 0),
        Calls("c"),
        Calls("d"),
    ]);
}

#[test]
fn of_one_network_those_who_have_had_less_come_first() {
    check(&[Comes(1, "a", 3), Comes(1, "b", 0), Comes(1, "c", 0), Calls("b"), Calls("c")]);
    // Later by as much as it has had, and no more.
    check(&[Comes(1, "a", 3), Leaves(1, "a"), Comes(1, "b", 3), Comes(1, "c", 0), Calls("c")]);
    let mut later = vec![Comes(1, "a", 1_000)];
    later.extend(["b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|name| Comes(1, name, 0)));
    later.extend([Leaves(1, "j"), Comes(1, "k", 0)]);
    later.extend(["b", "c", "d", "e", "f", "g", "h", "i", "a", "k"].map(Calls));
    check(&later);
    // What one has had does not count against another network.
    check(&[Comes(1, "a", 9), Comes(2, "b", 0), Comes(2, "c", 0), Calls("a"), Calls("b")]);
}

#[test]
fn one_of_another_network_is_not_held_up_by_a_thousand() {
    let (mut line, now) = (Line::default(), Instant::now());
    for number in 0..1_000 {
        line.join(network(1), Duration::ZERO, now, number);
    }
    assert_eq!((line.call(), line.len()), (Some((network(1), 0)), 999));
    line.join(network(2), Duration::from_secs(60), now, 1_000);
    assert_eq!(line.call(), Some((network(2), 1_000)));
    line.end_turn(network(2));
    for number in 1..1_000 {
        assert_eq!(line.call(), Some((network(1), number)));
    }
    assert_eq!((line.call(), line.networks.len(), line.round.len()), (None, 1, 0));
    (0..1_000).for_each(|_| line.end_turn(network(1)));
    assert!(line.networks.is_empty(), "nothing is kept of those who are gone");
}

/// One in line, as the property sees it.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    network: IpAddr,
    place: Place,
    came_at: Instant,
}

#[test]
fn whatever_happens_nobody_waits_for_more_than_the_others_share() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    for _ in 0..200 {
        story(&mut random);
    }
}

fn story(random: &mut Rng) {
    let mut line: Line<usize> = Line::default();
    let mut waiting: HashMap<usize, Waiting> = HashMap::new();
    let mut turns: Vec<IpAddr> = Vec::new();
    // Of a network that has come and not been called yet: how many were in line, and the calls since.
    let mut newcomers: HashMap<IpAddr, (usize, usize)> = HashMap::new();
    let (networks, turns_max) = (random.usize(1..20), random.usize(1..6));
    let mut now = Instant::now();
    for name in 0..500 {
        now += Duration::from_millis(random.u64(..2_000));
        let from = network(random.usize(..networks));
        match random.u8(..10) {
            0..=4 => {
                if !line.networks.contains_key(&from) {
                    newcomers.insert(from, (line.round.len(), 0));
                }
                let had = Duration::from_secs(random.u64(..30));
                let place = line.join(from, had, now, name);
                waiting.insert(name, Waiting { network: from, place, came_at: now });
            }
            5 if !waiting.is_empty() => {
                let left = *random.choice(waiting.keys()).expect("one waits");
                let Waiting { network, place, .. } = waiting[&left];
                assert_eq!(line.leave(network, place), Some(left));
                assert_eq!(line.leave(network, place), None, "only once");
                waiting.remove(&left);
                newcomers.retain(|from, _| line.networks.contains_key(from));
            }
            6 | 7 if !turns.is_empty() => {
                line.end_turn(turns.swap_remove(random.usize(..turns.len())));
            }
            _ if turns.len() < turns_max => {
                let Some((network, name)) = line.call() else {
                    assert!(waiting.is_empty());
                    continue;
                };
                turns.push(network);
                let called = waiting.remove(&name).expect("it waits");
                newcomers.remove(&network);
                for (ahead, calls) in newcomers.values_mut() {
                    *calls += 1;
                    assert!(calls <= ahead, "{calls} calls before it, {ahead} networks");
                }
                for other in waiting.values().filter(|other| other.network == network) {
                    let later = called.came_at.duration_since(other.came_at);
                    assert!(later <= HAD_MAX, "overtaken by one {later:?} later");
                }
            }
            _ => {}
        }
        assert_eq!(line.len(), waiting.len());
    }
}
