//! What a client and this server agree on beside RFC 6455: permessage-deflate (RFC 7692), or nothing.
//! Pure: a request's header values in, the answer's out.
//!
//! Each message is compressed once for all who want it, so none may refer to an earlier one
//! (`server_no_context_takeover`), and all have the full window: an offer that asks for a smaller one
//! is passed over. What clients send is skipped unread, however they compress it. So whatever a client
//! binds its own side to costs nothing here, and the answer says it again: gorilla/websocket and .NET
//! give up on an answer that does not.

use std::fmt;

/// The one extension that is known here.
const NAME: &str = "permessage-deflate";
/// RFC 7692 section 7.1.2: the base-2 logarithms of windows.
const WINDOW_BITS: std::ops::RangeInclusive<u32> = 8..=15;
const WINDOW_BITS_FULL: u32 = 15;
/// One offer of a list: a name and its parameters.
#[derive(Debug, Default)]
struct ExtensionOffer {
    name: String,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    value: Option<String>,
}

/// What an offer that can be served is answered with.
#[derive(Debug, Default)]
struct Agreed {
    /// RFC 7692 section 7.1.1.2: the client binds itself, and may be told that this is known.
    has_client_no_takeover: bool,
    /// RFC 7692 section 7.1.2.1: a client that asks for a window is answered with it.
    server_window_bits: Option<u32>,
    /// RFC 7692 section 7.1.2.2: the client binds itself to this window.
    client_window_bits: Option<u32>,
}

/// What `Sec-WebSocket-Extensions` says in the answer to a request with these values of it: the first
/// offer that can be served, in the client's order. None: no extension is used.
///
/// A value that is no list of extensions (RFC 6455 section 9.1) offers nothing, as in BigchainDB's own
/// server.
pub fn agree<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut offers = values.into_iter().filter_map(offers).flatten();
    offers.find_map(|offer| Agreed::on(&offer)).map(|agreed| agreed.to_string())
}

impl Agreed {
    /// None: the offer is declined (RFC 7692 section 7.1).
    fn on(offer: &ExtensionOffer) -> Option<Self> {
        if offer.name != NAME {
            return None;
        }
        let mut agreed = Self::default();
        for (slot, Parameter { name, value }) in offer.parameters.iter().enumerate() {
            // RFC 7692 section 7.1: once each.
            if offer.parameters[..slot].iter().any(|before| before.name == *name) {
                return None;
            }
            match (name.as_str(), value.as_deref()) {
                // It is said in any case.
                ("server_no_context_takeover", None) => {}
                ("client_no_context_takeover", None) => agreed.has_client_no_takeover = true,
                // The client would take a bound for its own window. None is asked for.
                ("client_max_window_bits", None) => {}
                ("client_max_window_bits", Some(bits)) => {
                    agreed.client_window_bits = Some(window_bits(bits)?);
                }
                ("server_max_window_bits", Some(bits)) => {
                    let bits = window_bits(bits).filter(|bits| *bits == WINDOW_BITS_FULL)?;
                    agreed.server_window_bits = Some(bits);
                }
                _ => return None,
            }
        }
        Some(agreed)
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{NAME}; server_no_context_takeover")?;
        if self.has_client_no_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        match self.client_window_bits {
            Some(bits) => write!(f, "; client_max_window_bits={bits}"),
            None => Ok(()),
        }
    }
}

fn window_bits(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|bits| is_plain && WINDOW_BITS.contains(bits))
}

/// Reads one header's list; none if it is not one.
fn offers(mut rest: &str) -> Option<Vec<ExtensionOffer>> {
    let mut offers = Vec::new();
    loop {
        // RFC 9110 section 5.6.1: empty elements count for nothing.
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(offers);
        }
        let mut offer = ExtensionOffer { name: token(&mut rest)?, parameters: Vec::new() };
        while skip(&mut rest, ';') {
            let name = token(&mut rest)?;
            let value = match skip(&mut rest, '=') {
                true => Some(token_or_quoted(&mut rest)?),
                false => None,
            };
            offer.parameters.push(Parameter { name, value });
        }
        offers.push(offer);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}

/// Takes a token (RFC 9110 section 5.6.2) and the blanks around it.
fn token(rest: &mut &str) -> Option<String> {
    let text = trimmed(rest);
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    let (token, behind) = text.split_at(end);
    *rest = trimmed(behind);
    Some(token.to_owned()).filter(|token| !token.is_empty())
}

/// The same, or one in quotes, where it must be a token without them (RFC 6455 section 9.1).
fn token_or_quoted(rest: &mut &str) -> Option<String> {
    let Some(mut inside) = trimmed(rest).strip_prefix('"') else { return token(rest) };
    let mut quoted = String::new();
    loop {
        let mut characters = inside.chars();
        match characters.next()? {
            '"' => {
                *rest = trimmed(characters.as_str());
                let mut all = quoted.as_str();
                return token(&mut all).filter(|token| *token == quoted);
            }
            '\\' => quoted.push(characters.next()?),
            plain => quoted.push(plain),
        }
        inside = characters.as_str();
    }
}

fn skip(rest: &mut &str, mark: char) -> bool {
    let behind = rest.strip_prefix(mark);
    *rest = behind.unwrap_or(rest);
    behind.is_some()
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "permessage-deflate; server_no_context_takeover";
    const WITH_WINDOW: &str =
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=15";

    fn check(values: &[&str], expected: Option<&str>) {
        assert_eq!(agree(values.iter().copied()).as_deref(), expected, "{values:?}");
    }

    /// What real clients offer, and the parameters that their answer must have.
    #[test]
    fn what_clients_offer_is_accepted_and_said_again_where_they_bind_themselves() {
        let cases = include_str!("../../tests/data/deflate-offers.json");
        let cases: Vec<serde_json::Value> = serde_json::from_str(cases).expect("JSON");
        for case in cases {
            let answer = agree(case["offer"].as_str()).expect("an answer");
            let mut named: Vec<&str> = answer.split("; ").skip(1).collect();
            let wanted = case["answer_must_name"].as_array().expect("a list");
            let mut wanted: Vec<&str> = wanted.iter().filter_map(|name| name.as_str()).collect();
            named.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(named, wanted, "{case}");
        }
    }

    #[test]
    fn the_first_offer_that_can_be_served_is() {
        for (values, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["x-webkit-deflate-frame, permessage-bzip2; level=9"], None),
            (&["x-webkit-deflate-frame; no_context, permessage-deflate"], Some(ANSWER)),
            (&["x-other", "permessage-deflate"], Some(ANSWER)),
            (&["permessage-deflate; server_max_window_bits=10, permessage-deflate"], Some(ANSWER)),
            (
                &["permessage-deflate; server_max_window_bits=10", "permessage-deflate"],
                Some(ANSWER),
            ),
            (
                &["permessage-deflate; server_max_window_bits=15, permessage-deflate"],
                Some(WITH_WINDOW),
            ),
            (
                &["permessage-deflate; other, permessage-deflate; server_max_window_bits=\"15\""],
                Some(WITH_WINDOW),
            ),
            (&[", ,permessage-deflate,,"], Some(ANSWER)),
            // Declined with what they bind the client to; the next offer is another.
            (
                &["permessage-deflate; client_no_context_takeover; server_max_window_bits=9, \
                   permessage-deflate; client_max_window_bits"],
                Some(ANSWER),
            ),
        ] {
            check(values, expected);
        }
    }

    #[test]
    fn a_clients_own_window_is_said_again_as_it_means_it() {
        for (parameters, named) in [
            ("client_max_window_bits=15", "; client_max_window_bits=15"),
            ("client_max_window_bits=8", "; client_max_window_bits=8"),
            ("\tclient_max_window_bits = 10 , x", "; client_max_window_bits=10"),
            ("client_max_window_bits=\"1\\0\"", "; client_max_window_bits=10"),
            (
                "client_max_window_bits=12; server_max_window_bits=15; client_no_context_takeover",
                "; client_no_context_takeover; server_max_window_bits=15; client_max_window_bits=12",
            ),
        ] {
            check(
                &[&format!("permessage-deflate;{parameters}")],
                Some(&format!("{ANSWER}{named}")),
            );
        }
    }

    #[test]
    fn what_cannot_be_served_is_declined() {
        for parameters in [
            "server_max_window_bits=8",
            "server_max_window_bits=14",
            "server_max_window_bits=16",
            "server_max_window_bits=015",
            "server_max_window_bits=+15",
            "server_max_window_bits=\"\"",
            "server_max_window_bits=\"15 \"",
            "server_max_window_bits",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=x",
            "client_max_window_bits=99999999999999999999",
            "client_max_window_bits; client_max_window_bits",
            "server_no_context_takeover; server_no_context_takeover",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "window=15",
        ] {
            check(&[&format!("permessage-deflate; {parameters}")], None);
        }
    }

    #[test]
    fn what_is_no_list_offers_nothing() {
        for value in [
            "permessage-deflate;",
            "permessage-deflate; =15",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate; client_max_window_bits=\"10\\",
            "permessage-deflate x",
            "permessage-deflate=1",
            "permessage-deflate, \"",
            "; permessage-deflate",
            "x; y=\"a, permessage-deflate\"",
            "pérmessage-deflate",
        ] {
            check(&[value], None);
        }
        check(&["permessage-deflate;", "permessage-deflate"], Some(ANSWER));
    }
}
