//! The texts of control messages, told apart by their `type`. Pure; what carries them is decided
//! elsewhere.

/// A message that is not a block's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The `type` of a control message, the event's name of a Server-Sent Event.
    pub kind: &'static str,
    /// Where a client goes on that has read this; only Server-Sent Events can say it beside the text.
    pub id: Option<String>,
    pub json: String,
}

/// Where a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beginning {
    /// The block that comes next.
    pub next_height: u64,
    /// Events of that block that the client has already.
    pub events_before: u64,
    /// The oldest height that could be had, in memory or from the broker.
    pub first_height: Option<u64>,
    pub tip_height: Option<u64>,
}

/// Comes first: `after=` its height, and index if there is one, gives this same stream.
pub fn position(beginning: Beginning) -> Notice {
    let Beginning { next_height, events_before, first_height, tip_height } = beginning;
    let number = |height: Option<u64>| height.map_or("null".to_owned(), |it| it.to_string());
    let (height, index) = match events_before.checked_sub(1) {
        Some(index) => (Some(next_height), Some(index)),
        None => (next_height.checked_sub(1), None),
    };
    let place = match index {
        Some(index) => format!("{}, \"index\": {index}", number(height)),
        None => number(height),
    };
    Notice {
        kind: "position",
        id: height.map(|height| match index {
            Some(index) => format!("{height}.{index}"),
            None => height.to_string(),
        }),
        json: format!(
            "{{\"type\": \"position\", \"height\": {place}, \"first_height\": {}, \"tip_height\": {}}}",
            number(first_height),
            number(tip_height)
        ),
    }
}

/// In the place of heights that never came, both ends included.
pub fn gap(from_height: u64, to_height: u64) -> Notice {
    Notice {
        kind: "gap",
        id: Some(to_height.to_string()),
        json: format!(
            "{{\"type\": \"gap\", \"from_height\": {from_height}, \"to_height\": {to_height}}}"
        ),
    }
}

/// A height that came after this client had passed it.
pub fn filled(height: u64) -> Notice {
    // Without an id: that would move the client's cursor back.
    let json = format!("{{\"type\": \"filled\", \"height\": {height}}}");
    Notice { kind: "filled", id: None, json }
}

/// Everything up to `height` has been sent, and what lies before the place `id`.
pub fn heartbeat(height: u64, id: Option<String>) -> Notice {
    let json = format!("{{\"type\": \"heartbeat\", \"height\": {height}}}");
    Notice { kind: "heartbeat", id, json }
}

/// The end, as a Server-Sent Event: what a WebSocket's close frame says. `id`: where a browser goes
/// on, which comes back by itself; with its last event's it would ask for that block's rest for ever.
pub fn close(code: u16, reason: &str, id: Option<&str>) -> Notice {
    let reason = serde_json::Value::from(reason);
    let json = format!("{{\"type\": \"close\", \"code\": {code}, \"reason\": {reason}}}");
    Notice { kind: "close", id: id.map(str::to_owned), json }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_what_gives_the_same_stream_again() {
        let check = |next_height, events_before, id: Option<&str>, json: &str| {
            let (first_height, tip_height) = (Some(3), Some(50));
            let beginning = Beginning { next_height, events_before, first_height, tip_height };
            let notice = position(beginning);
            assert_eq!(notice.id.as_deref(), id);
            let expected = format!(
                "{{\"type\": \"position\", {json}, \"first_height\": 3, \"tip_height\": 50}}"
            );
            assert_eq!(notice.json, expected);
        };
        check(43, 0, Some("42"), "\"height\": 42");
        check(42, 8, Some("42.7"), "\"height\": 42, \"index\": 7");
        check(0, 0, None, "\"height\": null");
    }

    #[test]
    fn control_messages_have_the_shapes_of_the_contract() {
        assert_eq!(gap(5, 7).json, r#"{"type": "gap", "from_height": 5, "to_height": 7}"#);
        assert_eq!(filled(6).json, r#"{"type": "filled", "height": 6}"#);
        assert_eq!(heartbeat(9, None).json, r#"{"type": "heartbeat", "height": 9}"#);
        assert_eq!(
            close(4009, "from_height=3 \"x\"", None).json,
            r#"{"type": "close", "code": 4009, "reason": "from_height=3 \"x\""}"#
        );
    }
}
