use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::block::{Block, DecodeRules, Decoded, decode};
use crate::config::Dialect;

const ALICE: &str = "DJgnirZfikN3zr2pW9yTFM39t8EbTPZ9oSZjf3pRYHEa";
const BOB: &str = "EdQy52gnioDHns8BZMS8E9UG8NYD2BYeeJKTfrahSaK8";
const CAROL: &str = "M9pZRJaXBL51SxyRV9PtDbcYahAdMfmh8dAH6dwh5ep";

fn block_of(body: &Value, dialect: Dialect) -> Block {
    let rules = DecodeRules { dialect, body_bytes_max: usize::MAX, encoded_bytes_max: u64::MAX };
    match decode(body.to_string().as_bytes(), &rules) {
        Ok(Decoded::Block(block)) => block,
        other => panic!("a block was due: {other:?}"),
    }
}

fn parameter(name: FilterName, value: &str) -> FilterParameter {
    FilterParameter::new(name, value).expect("a value")
}

/// A filter as a URL's query has it.
fn filter(query: &str) -> Filter {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let parameters = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').expect("a pair");
        parameter(FilterName::of(name).expect("a parameter"), value)
    });
    parameters.collect()
}

fn matches(filter: &Filter, block: &Block) -> Vec<u32> {
    let picked = picked_from(filter, &Index::of(&block.fields), 0, usize::MAX);
    let plain = (0..block.fields.len()).filter(|event| filter.accepts(&block.fields, *event));
    assert_eq!(picked, plain.map(|event| event as u32).collect::<Vec<_>>(), "{filter:?}");
    picked
}

/// Picks again and again, as many events at a time as there is room for.
fn picked_from(filter: &Filter, index: &Index, mut first: u32, room: usize) -> Vec<u32> {
    let (mut lists, mut all) = (Lists::default(), Vec::new());
    loop {
        let before = all.len();
        let more = filter.pick(index, first, room, &mut lists, &mut all);
        assert!(all.len() - before <= room && (!more || all.len() - before == room));
        if !more {
            return all;
        }
        first = all[all.len() - 1] + 1;
    }
}

fn id(tag: &str) -> String {
    tag.repeat(64)
}

/// Two blocks with what chains have: several owners of one output and of one input, a divisible
/// asset whose shares move apart, null and odd keys, an election.
fn chain() -> [Value; 2] {
    let transaction = |tag: &str, operation: &str, asset: Value, from: Value, to: Value| {
        json!({
            "id": id(tag), "operation": operation, "asset": asset,
            "inputs": [{ "owners_before": from, "fulfills": null }],
            "outputs": to,
        })
    };
    let to = |keys: &[&str]| json!([{ "public_keys": keys, "amount": "1" }]);
    [
        json!({ "height": 1, "transactions": [
            transaction("a", "CREATE", json!({ "data": {} }), json!([ALICE]), to(&[ALICE])),
            // Several must sign: of one output, and of one input.
            transaction("b", "TRANSFER", json!({ "id": id("a") }), json!([ALICE]), to(&[BOB, CAROL])),
            transaction("c", "TRANSFER", json!({ "id": id("a") }), json!([BOB, CAROL]), to(&[ALICE])),
            // A divisible asset's shares go to several outputs.
            transaction("d", "CREATE", json!({ "data": null }), json!([BOB]), json!([
                { "public_keys": [ALICE], "amount": "6" }, { "public_keys": [CAROL], "amount": "3" },
            ])),
        ] }),
        json!({ "height": 2, "transactions": [
            transaction("e", "VALIDATOR_ELECTION", json!({ "data": {} }), json!([ALICE]), to(&[BOB])),
            transaction("f", "VOTE", json!({ "id": id("e") }), json!([BOB]), to(&[CAROL])),
            transaction("1", "CREATE", Value::Null, Value::Null, Value::Null),
            transaction("2", "CREATE", json!("odd"), json!([null, 5, BOB]), json!([
                { "public_keys": null }, {}, null, { "public_keys": [null, [ALICE], CAROL, CAROL] },
            ])),
        ] }),
    ]
}

#[test]
fn every_parameter_means_what_the_api_promises() {
    let blocks = chain().map(|body| block_of(&body, Dialect::Bigchaindb));
    let check = |query: &str, expected: &[(u64, u32)]| {
        let filter = filter(query);
        let found: Vec<_> = blocks
            .iter()
            .flat_map(|block| {
                matches(&filter, block).into_iter().map(|event| (block.height, event))
            })
            .collect();
        assert_eq!(found, expected, "{query}");
    };
    check("", &[(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3)]);
    // Any owner of any output.
    check(&format!("public_key={ALICE}"), &[(1, 0), (1, 2), (1, 3)]);
    check(&format!("public_key={BOB}"), &[(1, 1), (2, 0)]);
    check(&format!("public_key={CAROL}"), &[(1, 1), (1, 3), (2, 1), (2, 3)]);
    // Any owner that an input spends from.
    check(&format!("owner_before={ALICE}"), &[(1, 0), (1, 1), (2, 0)]);
    check(&format!("owner_before={CAROL}"), &[(1, 2)]);
    check(&format!("owner_before={BOB}"), &[(1, 2), (1, 3), (2, 1), (2, 3)]);
    // A CREATE's asset is itself; a VOTE's the election.
    check(&format!("asset_id={}", id("a")), &[(1, 0), (1, 1), (1, 2)]);
    check(&format!("asset_id={}", id("D")), &[(1, 3)]);
    check(&format!("asset_id={}", id("e")), &[(2, 0), (2, 1)]);
    check(&format!("asset_id={}", id("1")), &[(2, 2)]);
    check(&format!("transaction_id={}", id("f")), &[(2, 1)]);
    check(&format!("transaction_id={}", id("9")), &[]);
    check("operation=VOTE", &[(2, 1)]);
    check("operation=MELT", &[]);
    // Values of one parameter are alternatives.
    check("operation=VOTE&operation=VALIDATOR_ELECTION", &[(2, 0), (2, 1)]);
    check(
        &format!("public_key={ALICE}&public_key={BOB}&public_key={ALICE}"),
        &[(1, 0), (1, 1), (1, 2), (1, 3), (2, 0)],
    );
    // Different parameters must all match.
    check(&format!("public_key={ALICE}&operation=CREATE"), &[(1, 0), (1, 3)]);
    check(&format!("operation=TRANSFER&public_key={CAROL}&asset_id={}", id("a")), &[(1, 1)]);
    check(&format!("owner_before={BOB}&public_key={BOB}"), &[]);
    check(
        &format!("operation=CREATE&operation=VOTE&owner_before={BOB}&public_key={CAROL}"),
        &[(1, 3), (2, 1), (2, 3)],
    );
}

#[test]
fn any_of_planetmints_assets_counts() {
    let body = json!({ "height": 1, "transactions": [
        { "id": id("a"), "operation": "CREATE", "assets": [{ "data": "x" }] },
        { "id": id("b"), "operation": "COMPOSE", "assets": [{ "id": id("a") }, { "id": id("c") }] },
        { "id": id("d"), "operation": "TRANSFER", "asset": { "id": id("c") } },
    ] });
    let block = block_of(&body, Dialect::Planetmint);
    assert_eq!(matches(&filter(&format!("asset_id={}", id("a"))), &block), [0, 1]);
    assert_eq!(matches(&filter(&format!("asset_id={}", id("c"))), &block), [1, 2]);
}

#[test]
fn the_index_finds_what_the_definition_says_on_random_blocks_and_filters() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let keys = [ALICE, BOB, CAROL];
    for _ in 0..500 {
        let keys_of = |random: &mut fastrand::Rng| -> Vec<&str> {
            (0..random.usize(0..3)).map(|_| keys[random.usize(0..3)]).collect()
        };
        // Of some, several windows are looked at.
        let events = if random.u8(0..20) == 0 { random.usize(0..400) } else { random.usize(0..12) };
        let transactions: Vec<_> = (0..events)
            .map(|_| {
                let operation = ["CREATE", "TRANSFER"][random.usize(0..2)];
                json!({
                    "id": id(&random.u8(0..6).to_string()),
                    "operation": operation,
                    "asset": { "id": id(&random.u8(0..4).to_string()) },
                    "inputs": [{ "owners_before": keys_of(&mut random) }],
                    "outputs": [{ "public_keys": keys_of(&mut random) }],
                })
            })
            .collect();
        let block =
            block_of(&json!({ "height": 1, "transactions": transactions }), Dialect::Bigchaindb);
        let values = random.usize(0..6);
        let draw = |_| {
            let name = FilterName::ALL[random.usize(0..5)];
            let value = match name {
                FilterName::PublicKey | FilterName::OwnerBefore => {
                    keys[random.usize(0..3)].to_owned()
                }
                FilterName::AssetId | FilterName::TransactionId => id(&random.u8(0..6).to_string()),
                FilterName::Operation => ["CREATE", "TRANSFER"][random.usize(0..2)].to_owned(),
            };
            parameter(name, &value)
        };
        let filter: Filter = (0..values).map(draw).collect();
        let all = matches(&filter, &block);
        let (first, room) = (random.u32(0..events as u32 + 2), random.usize(1..9));
        let ahead = all.iter().copied().filter(|event| *event >= first);
        let picked = picked_from(&filter, &Index::of(&block.fields), first, room);
        assert_eq!(picked, ahead.collect::<Vec<_>>(), "{filter:?} from {first}");
    }
}

#[test]
fn every_value_of_the_real_chain_is_found_where_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/chain.ndjson");
    let chain = std::fs::read_to_string(path).expect("the real chain");
    let mut found = 0;
    for line in chain.lines() {
        let block = block_of(&serde_json::from_str(line).expect("JSON"), Dialect::Bigchaindb);
        let index = Index::of(&block.fields);
        for event in 0..block.fields.len() {
            for (name, value) in block.fields.of(event).map(tagged) {
                let filter = Filter::from_iter([parameter(name, value)]);
                let picked = picked_from(&filter, &index, 0, usize::MAX);
                assert!(picked.contains(&(event as u32)), "{name:?} {value}");
                found += 1;
            }
        }
    }
    assert!(found > 10_000, "{found} values");
}
