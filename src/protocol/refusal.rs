//! The body of an answer over plain HTTP that says no: a status and a message, as JSON.

use serde::Deserialize;
use serde_json::{Value, json};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalBody<'a> {
    /// HTTP's.
    pub status: u16,
    /// Why, in words.
    pub message: &'a str,
}

#[derive(Deserialize)]
struct RefusalKeys {
    message: String,
}

impl RefusalBody<'_> {
    /// The body as a value, keys in the order of their names.
    pub fn to_json(self) -> Value {
        json!({ "status": self.status, "message": self.message })
    }

    /// With the status first, as an answer has it that is written without HTTP's help.
    pub fn to_text(self) -> String {
        let message = Value::from(self.message);
        format!("{{\"status\":{},\"message\":{message}}}", self.status)
    }

    /// The message of a body. None: it is none of ours.
    pub fn message_in(json: &[u8]) -> Option<String> {
        serde_json::from_slice::<RefusalKeys>(json).ok().map(|keys| keys.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_message_is_read_as_it_is_written(status: u16, message: String) {
            let body = RefusalBody { status, message: &message };
            for json in [body.to_text(), body.to_json().to_string()] {
                let found = RefusalBody::message_in(json.as_bytes());
                prop_assert_eq!(found.as_deref(), Some(message.as_str()));
            }
        }
    }

    #[test]
    fn the_shapes_are_the_contracts() {
        let body = RefusalBody { status: 403, message: "no \"x\"" };
        assert_eq!(body.to_text(), r#"{"status":403,"message":"no \"x\""}"#);
        assert_eq!(body.to_json(), json!({ "status": 403, "message": "no \"x\"" }));
        assert_eq!(RefusalBody::message_in(b"<html>"), None);
    }
}
