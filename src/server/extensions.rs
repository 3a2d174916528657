//! What a client and this server agree on beside RFC 6455: permessage-deflate (RFC 7692), or nothing.
//! Pure: a request's header values in, the answer's out.
//!
//! Each message is compressed once for all who want it, so none may refer to an earlier one
//! (`server_no_context_takeover`), and all have the full window: an offer that asks for a smaller one
//! is passed over. What clients send is skipped unread, however they compress it.

/// The one extension that is known here.
const NAME: &str = "permessage-deflate";
/// RFC 7692 section 7.1.2: the base-2 logarithms of windows.
const WINDOW_BITS: std::ops::RangeInclusive<u32> = 8..=15;
const WINDOW_BITS_FULL: u32 = 15;
const ANSWER: &str = "permessage-deflate; server_no_context_takeover";
/// RFC 7692 section 7.1.2.1: who asks for a window is answered with it.
const ANSWER_WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=15";

/// One offer of a list: a name and its parameters.
#[derive(Debug, Default)]
struct Offer {
    name: String,
    parameters: Vec<Parameter>,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    value: Option<String>,
}

/// What `Sec-WebSocket-Extensions` says in the answer to a request with these values of it: the first
/// offer that can be served, in the client's order. None: no extension is used.
///
/// A value that is no list of extensions (RFC 6455 section 9.1) offers nothing, as in BigchainDB's own
/// server.
pub fn agree<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    values.into_iter().filter_map(offers).flatten().find_map(|offer| answer(&offer))
}

fn answer(offer: &Offer) -> Option<&'static str> {
    if offer.name != NAME {
        return None;
    }
    let mut has_window = false;
    for (place, Parameter { name, value }) in offer.parameters.iter().enumerate() {
        // RFC 7692 section 7.1: once each.
        if offer.parameters[..place].iter().any(|before| before.name == *name) {
            return None;
        }
        match (name.as_str(), value.as_deref()) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(bits)) => {
                window_bits(bits)?;
            }
            ("server_max_window_bits", Some(bits)) => {
                window_bits(bits).filter(|bits| *bits == WINDOW_BITS_FULL)?;
                has_window = true;
            }
            _ => return None,
        }
    }
    Some(if has_window { ANSWER_WITH_WINDOW } else { ANSWER })
}

fn window_bits(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|bits| is_plain && WINDOW_BITS.contains(bits))
}

/// Reads one header's list; none if it is not one.
fn offers(mut rest: &str) -> Option<Vec<Offer>> {
    let mut offers = Vec::new();
    loop {
        // RFC 9110 section 5.6.1: empty elements count for nothing.
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(offers);
        }
        let mut offer = Offer { name: token(&mut rest)?, parameters: Vec::new() };
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

    fn check(values: &[&str], expected: Option<&str>) {
        assert_eq!(agree(values.iter().copied()), expected, "{values:?}");
    }

    #[test]
    fn what_clients_offer_is_accepted() {
        for offer in [
            // aiohttp (BigchainDB's own library), Chromium and Safari, Node's ws, Python's websockets.
            "permessage-deflate; client_max_window_bits",
            // Firefox.
            "permessage-deflate",
            // Gorilla.
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            // Autobahn|Python.
            "permessage-deflate; client_no_context_takeover; client_max_window_bits",
        ] {
            check(&[offer], Some(ANSWER));
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
                Some(ANSWER_WITH_WINDOW),
            ),
            (
                &["permessage-deflate; other, permessage-deflate; server_max_window_bits=\"15\""],
                Some(ANSWER_WITH_WINDOW),
            ),
            (&["permessage-deflate ;\tclient_max_window_bits = 10 , x"], Some(ANSWER)),
            (&[", ,permessage-deflate,,"], Some(ANSWER)),
            (&["permessage-deflate; client_max_window_bits=\"1\\0\""], Some(ANSWER)),
        ] {
            check(values, expected);
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
