//! The `Forwarded` header (RFC 7239): what each proxy says of the request that it was asked. Pure.

/// What one proxy says, as it stands there, quotes taken off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    pub for_whom: Option<String>,
    pub host: Option<String>,
    pub proto: Option<String>,
}

/// The elements of one line, the client's own proxy first. What cannot be read is an empty element, and
/// ends the line.
pub fn elements(line: &str) -> Vec<Element> {
    let mut found = vec![Element::default()];
    let mut rest = line.trim_matches(BLANK);
    while !rest.is_empty() {
        let Some((name, value, behind)) = pair(rest) else {
            *found.last_mut().expect("bug: there is a first") = Element::default();
            break;
        };
        let element = found.last_mut().expect("bug: there is a first");
        match name.to_ascii_lowercase().as_str() {
            "for" => element.for_whom = Some(value),
            "host" => element.host = Some(value),
            "proto" => element.proto = Some(value),
            _ => {}
        }
        let behind = behind.trim_start_matches(BLANK);
        rest = match behind.strip_prefix(';') {
            Some(next) => next.trim_start_matches(BLANK),
            None => match behind.strip_prefix(',') {
                Some(next) => {
                    found.push(Element::default());
                    next.trim_start_matches(BLANK)
                }
                None if behind.is_empty() => behind,
                None => {
                    *element = Element::default();
                    break;
                }
            },
        };
    }
    found
}

const BLANK: [char; 2] = [' ', '\t'];

/// A name, its value and what stands behind them.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_matches(BLANK);
    let is_token = |text: &str| !text.is_empty() && !text.contains([' ', '\t', ',', ';', '"', '=']);
    if !is_token(name) {
        return None;
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let (value, rest) = quoted_string(quoted)?;
        return Some((name, value, rest));
    }
    let end = rest.find([',', ';']).unwrap_or(rest.len());
    let value = rest[..end].trim_end_matches(BLANK);
    is_token(value).then(|| (name, value.to_owned(), &rest[end..]))
}

/// A quoted string behind its first quote (RFC 9110 section 5.6.4), and what stands behind it.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(for_whom: &str, host: &str, proto: &str) -> Element {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Element { for_whom: given(for_whom), host: given(host), proto: given(proto) }
    }

    #[test]
    fn elements_are_read_in_their_order() {
        for (line, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", vec![element("192.0.2.60", "", "http")]),
            ("For=\"[2001:db8::17]:4711\"", vec![element("[2001:db8::17]:4711", "", "")]),
            (
                "for=192.0.2.43, for=198.51.100.17 ; host=\"chain.example:8443\";proto=https",
                vec![
                    element("192.0.2.43", "", ""),
                    element("198.51.100.17", "chain.example:8443", "https"),
                ],
            ),
            ("for=\"_a,b;c=\\\"d\\\"\";host=x", vec![element("_a,b;c=\"d\"", "x", "")]),
            (
                "for=unknown,for=_hidden",
                vec![element("unknown", "", ""), element("_hidden", "", "")],
            ),
            ("secret=x", vec![Element::default()]),
            ("", vec![Element::default()]),
            ("for=192.0.2.1;", vec![element("192.0.2.1", "", "")]),
        ] {
            assert_eq!(elements(line), expected, "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_nothing_and_ends_the_line() {
        for line in [
            "for=192.0.2.1, nonsense",
            "for=192.0.2.1, for=\"192.0.2.2",
            "for=192.0.2.1, for=\"192.0.2.2\"x",
            "for=192.0.2.1, for=192.0.2.2 192.0.2.3, for=192.0.2.4",
            "for=192.0.2.1, for=\"192.0.2.2\\",
            "for=192.0.2.1, =x",
            "for=192.0.2.1, for=",
        ] {
            assert_eq!(
                elements(line),
                [element("192.0.2.1", "", ""), Element::default()],
                "{line}"
            );
        }
    }
}
