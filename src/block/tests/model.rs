//! A property: what the decoder reads of a message is what `serde_json::Value` as the model says.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-f]{1,64}",
        any::<String>(),
        proptest::collection::vec(
            prop_oneof![Just('"'), Just('\\'), Just('\u{7f}'), any::<char>()],
            0..8
        )
        .prop_map(String::from_iter),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("id".to_owned()),
        Just("public_keys".into()),
        Just("owners_before".into()),
        any_text()
    ];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(key.clone(), inner, 0..4).prop_map(Value::from_iter),
        ]
    })
}

fn any_transaction() -> impl Strategy<Value = Value> {
    let owner = (proptest::collection::vec(any_text(), 0..3), any_value()).prop_map(
        |(keys, other)| json!({"public_keys": keys, "owners_before": keys, "other": other}),
    );
    let owners = proptest::collection::vec(prop_oneof![owner, any_value()], 0..3);
    let owners = prop_oneof![owners.prop_map(Value::from), any_value()];
    let asset = prop_oneof![any_text().prop_map(|id| json!({"id": id})), any_value()];
    (any_text(), owners.clone(), owners, asset, any_value(), any_value()).prop_map(
        |(id, inputs, outputs, asset, operation, other)| {
            json!({
                "id": id + "x", "inputs": inputs, "outputs": outputs, "asset": asset,
                "operation": operation, "other": other,
            })
        },
    )
}

/// The fields that the model finds in a transaction, sorted.
fn expected_fields(transaction: &Value) -> Vec<String> {
    let text = |field: TransactionField| format!("{field:?}");
    let id = transaction["id"].as_str().expect("ids are text");
    let mut fields = vec![
        text(TransactionField::TransactionId(id)),
        text(TransactionField::AssetId(transaction["asset"]["id"].as_str().unwrap_or(id))),
    ];
    fields.extend(
        transaction["operation"].as_str().map(|name| text(TransactionField::Operation(name))),
    );
    let texts = |list: &str, key: &str| -> Vec<String> {
        let objects = transaction[list].as_array().into_iter().flatten();
        let lists = objects.filter_map(|object| object[key].as_array()).flatten();
        lists.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    fields.extend(
        texts("inputs", "owners_before").iter().map(|key| text(TransactionField::OwnerBefore(key))),
    );
    fields.extend(
        texts("outputs", "public_keys").iter().map(|key| text(TransactionField::PublicKey(key))),
    );
    fields.sort();
    fields
}

proptest! {
    #[test]
    fn random_text_is_never_too_much(text in r#"([\[\]{}:,"0-9a\\u. -]|null|"id"|"height": 1|"transactions": \[){0,40}"#) {
        let accepted = read(&text).is_ok();
        prop_assert!(!accepted || serde_json::from_str::<Value>(&text).is_ok() || text.contains("\\u"));
        let _ = (height_of(text.as_bytes()), with_height(text.as_bytes(), 1));
    }

    #[test]
    fn random_bytes_in_a_block_are_never_too_much(
        at in 0usize..200, bytes in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut body = of_one(r#""id": "a", "asset": {"id": "b"}, "inputs": [{"owners_before": ["k"]}]"#).into_bytes();
        let at = at.min(body.len());
        body.splice(at..(at + bytes.len()).min(body.len()), bytes);
        let accepted = decode(&body, &RULES).is_ok();
        prop_assert!(!accepted || serde_json::from_slice::<Value>(&body).is_ok());
    }

    #[test]
    fn random_blocks_are_read_like_the_model(
        transactions in proptest::collection::vec(any_transaction(), 0..4),
        height in 0..=HEIGHT_MAX,
        hash in proptest::option::of(any_text()),
        in_event: bool,
    ) {
        let plain = json!({"height": height, "hash": hash, "transactions": transactions});
        let body = match in_event {
            true => json!({"type": 1, "data": plain}).to_string(),
            false => plain.to_string(),
        };
        let block = block(&body, &RULES);
        prop_assert_eq!(block.height, height);
        prop_assert_eq!(block.hash.as_deref(), hash.as_deref());
        prop_assert_eq!(block.fields.len(), transactions.len());
        for (index, transaction) in transactions.iter().enumerate() {
            let mut found: Vec<String> =
                block.fields.of(index).map(|field| format!("{field:?}")).collect();
            found.sort();
            prop_assert_eq!(found, expected_fields(transaction));
        }
    }
}
