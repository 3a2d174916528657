//! Secrets in text that people typed: masked before the text is shown. Pure.
//!
//! Nobody can say where in a text that was typed wrongly a password ends. So more is masked than a
//! password: everything before an address's last `@`, every query, whatever holds a key in PEM.

const MASK: &str = "***";
const PEM: &str = "-----BEGIN";
/// A longer name of a parameter is none.
const NAME_BYTES_MAX: usize = 32;
/// What of a value is quoted.
const EXCERPT_CHARS_MAX: usize = 64;

/// Whether a text that should be something else is an address with a password or a query, or a key.
pub fn is_likely(text: &str) -> bool {
    let has_password = |text: &str| text.rsplit_once('@').is_some_and(|(it, _)| it.contains(':'));
    match text.split_once("://") {
        _ if is_key(text) => true,
        Some((_, rest)) => rest.contains(['@', '?']),
        None => has_password(text),
    }
}

/// The name of a parameter in a URL, if `name` and the value behind it look like one. What stands there
/// without a value, or ends as base64 does, may be a token.
pub fn parameter_name<'a>(name: &'a str, value: &str) -> Option<&'a str> {
    let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_byte);
    let has_value = !value.trim_matches('=').is_empty();
    (is_name && has_value).then_some(name)
}

/// The beginning of a value that cannot be used, up to what may separate it from another parameter: a
/// token may stand behind that.
pub fn excerpt(value: &str) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || "_-.+*~".contains(*c);
    let shown: String = value.chars().take_while(is_part).take(EXCERPT_CHARS_MAX).collect();
    match shown.len() == value.len() {
        true => shown,
        false => format!("{shown}..."),
    }
}

/// What was typed, as it may be shown.
pub fn masked(typed: &str) -> String {
    if is_key(typed) {
        return MASK.to_owned();
    }
    let (before, rest) = match typed.find("://") {
        Some(at) => typed.split_at(at + "://".len()),
        None => ("", typed),
    };
    let (credentials, place) = match rest.rsplit_once('@') {
        // A raw `?` in a password, or an `@` in a token: what follows may be a piece of it.
        Some((before, _)) if before.contains(['?', '#']) => (MASK, MASK),
        Some((_, place)) => (MASK, place),
        None => ("", rest),
    };
    let at = if credentials.is_empty() { "" } else { "@" };
    let end = place.find(['?', '#']).unwrap_or(place.len());
    let (place, query) = place.split_at(end);
    let query = if query.is_empty() { "" } else { MASK };
    // Without a host behind it, a password stands where a port does.
    let is_address = !before.is_empty();
    let place = if is_address && !is_place(place) { MASK } else { place };
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{before}{credentials}{at}{place}{mark}{query}")
}

/// `message` with each of `typed` that it quotes masked, as it stands or with escapes.
pub fn concealed<'a>(message: String, typed: impl IntoIterator<Item = &'a str>) -> String {
    typed.into_iter().fold(message, |message, typed| {
        let shown = masked(typed);
        match shown == typed {
            true => message,
            false => {
                [typed.to_owned(), inner(format!("{typed:?}")), typed.escape_default().to_string()]
                    .iter()
                    .fold(message, |message, quoted| message.replace(quoted.as_str(), &shown))
            }
        }
    })
}

fn is_key(text: &str) -> bool {
    text.contains(PEM) || text.contains("PRIVATE KEY")
}

/// Without the quotation marks.
fn inner(quoted: String) -> String {
    quoted[1..quoted.len() - 1].to_owned()
}

/// Whether each host in it has a port in digits, or none.
fn is_place(text: &str) -> bool {
    let authority = text.split('/').next().unwrap_or("");
    let behind_address = authority.rsplit(']').next().unwrap_or("");
    match behind_address.split_once(':') {
        Some((_, port)) => port.bytes().all(|byte| byte.is_ascii_digit()),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_masked_and_the_rest_stays() {
        for (typed, shown) in [
            ("debug", "debug"),
            ("server.listen=127.0.0.1:9985", "server.listen=127.0.0.1:9985"),
            ("/etc/blockcast.toml", "/etc/blockcast.toml"),
            ("http://node:9985/x", "http://node:9985/x"),
            ("ws://[::1]:9985/x", "ws://[::1]:9985/x"),
            ("amqp://u:hunter@host/v", "amqp://***@host/v"),
            ("amqp.uris=amqp://u:hunter@host", "amqp.uris=amqp://***@host"),
            ("amqp://u:hunt/er@x@host:1", "amqp://***@host:1"),
            ("amqp://u:hunt/e?r#@x@host:1", "amqp://***@***"),
            ("http://host/x?access_token=hunt@er", "http://***@***"),
            ("amqp://a:hunter@b,amqp://c:hunter@d", "amqp://***@d"),
            ("u:hunter@host", "***@host"),
            ("amqp://u:hunter", "amqp://***"),
            ("http://u:hunt/er", "http://***"),
            ("wss://host/x?access_token=hunter", "wss://host/x?***"),
            ("host?hunter", "host?***"),
            ("-----BEGIN PRIVATE KEY-----\nhunter", "***"),
        ] {
            assert_eq!(masked(typed), shown, "{typed}");
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_masked_without_a_trace() {
        for (text, expected) in [
            ("amqp://u:hunter@host", true),
            ("amqp://hunter@host", true),
            ("http://host/x?access_token=hunter", true),
            ("u:hunter@host", true),
            ("-----BEGIN PRIVATE KEY-----hunter", true),
            ("https://chain.example/blocks", false),
            ("urn:blocks", false),
            ("blocks@host", false),
            ("block.#", false),
            ("*.example.org", false),
            ("info,blockcast=debug", false),
            ("", false),
        ] {
            assert_eq!(is_likely(text), expected, "{text}");
            assert!(!expected || !masked(text).contains("hunter"), "{text}");
        }
    }

    #[test]
    fn a_parameter_is_named_where_no_token_can_stand() {
        for (name, value, expected) in [
            ("api_key", "x", true),
            ("x-y.z", "=", false),
            ("hunter", "", false),
            ("hunter", "==", false),
            ("access_token=hunter", "", false),
            ("access_token=hunter", "x", false),
            ("access_token:hunter", "x", false),
            ("hunterhunterhunterhunterhunterhun", "x", false),
            ("hünter", "x", false),
            ("", "x", false),
        ] {
            assert_eq!(parameter_name(name, value), expected.then_some(name), "{name}={value}");
        }
    }

    #[test]
    fn of_a_value_what_may_be_another_parameter_is_not_quoted() {
        for (value, expected) in [
            ("", ""),
            ("+1", "+1"),
            ("soon", "soon"),
            ("5?access_token=hunter", "5..."),
            ("5&access_token=hunter", "5..."),
            ("5;access_token=hunter", "5..."),
            ("=hunter", "..."),
            (&"x".repeat(65), &format!("{}...", "x".repeat(64))),
        ] {
            assert_eq!(excerpt(value), expected, "{value}");
        }
    }

    #[test]
    fn a_message_is_rid_of_what_it_quotes() {
        let typed = ["amqp://u:hun\"ter@host", "plain"];
        let message = format!("bad {:?}, {} and plain", typed[0], typed[0]);
        let told = concealed(message, typed);
        assert_eq!(told, "bad \"amqp://***@host\", amqp://***@host and plain");
    }
}
