//! Tests of heights that are missing where they are looked for.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_missing_height_is_a_gap_and_comes_late_as_a_fill() {
    let missing = 300..=302;
    let chain = (0..1_000).filter(|height| !missing.contains(height));
    let tape = Tape::of(chain, 1);
    let bench = Bench::new(&tape, Blocks::default(), 4);
    let mut client = bench.client(290);
    client.until(310).await.expect("read");
    assert_eq!(client.read[10..12], [(300, 302), (303, 303)]);
    // It begins in the gap itself, even there where it was asked for.
    let mut client = bench.client(301);
    client.until(303).await.expect("read");
    assert_eq!(client.read[..2], [(301, 302), (303, 303)]);
    bench.stop().await;

    // Published again behind more than is waited for, it fills the gap of who has not passed it.
    let missing_then_late = (0..300).chain(301..310).chain([5; 5_000]).chain([300]).chain(310..400);
    let bench = Bench::new(&Tape::of(missing_then_late, 1), Blocks::default(), 4);
    let mut client = bench.client(295);
    client.unread(105).await;
    client.until(399).await.expect("read");
    assert_eq!(client.read, blocks(295..400));
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_search_missed_is_looked_for_before_it_is_called_missing() {
    let tape =
        Tape::of((0..30_000).chain(0..25_000).chain(30_000..32_000).chain(32_005..40_000), 1);
    let bench = Bench::new(&tape, Blocks::default(), 1);
    let mut client = bench.client(29_990);
    client.until(39_999).await.expect("read");
    let mut expected = blocks(29_990..32_000);
    expected.push((32_000, 32_004));
    expected.extend(blocks(32_005..40_000));
    assert_eq!(client.read, expected);

    // What was read for one client need not be read for the next, unless the stream is another.
    let mut played = tape.played();
    assert!(played > 60_000, "{played}");
    let read_on = 8_000..25_000;
    let mut check = async |from_height: u64| {
        let mut client = bench.client(from_height);
        client.until(39_999).await.expect("read");
        assert!(client.read.contains(&(32_000, 32_004)));
        let before = std::mem::replace(&mut played, tape.played());
        assert!(read_on.contains(&(played - before)), "{}", played - before);
    };
    check(31_900).await;
    check(31_500).await;
    tape.push(90_000, body(40_000));
    tape.trim(10);
    check(31_900).await;
    tape.trim(56_900);
    tape.push(90_001, body(40_001));
    check(31_990).await;
    bench.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_published_again_far_behind_is_read_in_its_place() {
    let check = async |messages: Vec<Vec<u8>>, from_height, tip, missing: &[u64]| {
        let tape = Tape::default();
        for (offset, body) in messages.into_iter().enumerate() {
            tape.push(offset as u64, body);
        }
        let bench = Bench::new(&tape, Blocks::default(), 1);
        let mut client = bench.client(from_height);
        client.until(tip).await.expect("read");
        let read = client.read.iter().flat_map(|(from, to)| *from..=*to);
        assert!(read.eq(from_height..=tip), "in order, from {from_height}");
        let missing = missing.iter().copied().filter(|height| *height >= from_height);
        assert_eq!(client.missing, Vec::from_iter(missing), "from {from_height}");
        assert!(tape.played() < 100_000, "{} messages", tape.played());
        bench.stop().await;
    };
    let of = |heights: &mut dyn Iterator<Item = u64>| Vec::from_iter(heights.map(body));

    // Retention took the first copies of 100 to 199, and what is before them had been published again.
    let run = of(&mut (0..100).chain(200..4_400).chain(100..200).chain(4_400..5_000));
    for from_height in [50, 100, 150, 200] {
        check(run.clone(), from_height, 4_999, &[]).await;
    }

    // Gaps that somebody repaired later, in any order, but for the last.
    let missing = [300, 301, 700, 2_000, 3_000];
    let chain = of(&mut (0..8_000).filter(|height| !missing.contains(height)));
    let repaired = of(&mut [2_000, 301, 700, 300].into_iter());
    let repaired = [chain.clone(), repaired, of(&mut (8_000..9_000))].concat();
    for from_height in [290, 300, 301, 699, 701, 2_000, 3_000] {
        check(repaired.clone(), from_height, 8_999, &[3_000]).await;
    }

    // What only looks like a block repairs nothing, wherever it is, and is not looked for each time.
    let bad = |height: u64| format!("{{\"height\": {height}}}").into_bytes();
    let copies = Vec::from_iter([2_000, 301, 300, 301, 700].map(bad));
    let spoilt = [copies.clone(), chain, copies, of(&mut (8_000..9_000))].concat();
    check(spoilt, 290, 8_999, &missing).await;
    let missing = Vec::from_iter((500..9_000).filter(|height| height % 10 < 2));
    let in_place = |height| if missing.contains(&height) { bad(height) } else { body(height) };
    let spoilt = Vec::from_iter((0..9_000).map(in_place));
    for from_height in [0, 4_503] {
        check(spoilt.clone(), from_height, 8_999, &missing).await;
    }
}
