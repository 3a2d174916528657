//! What a browser is told of who may read an answer (WHATWG Fetch, "CORS protocol"): every answer,
//! refusals and streams too, says it in the same way.

use hyper::Request;
use hyper::header::{self, HeaderName, HeaderValue};

use super::answer::Answer;
use super::origin::Origins;

/// What a page reads of a refusal beside its status and its body.
const EXPOSED: HeaderValue = HeaderValue::from_static("Retry-After");

/// Who may read an answer in a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// Every page, without its credentials: no origins are listed.
    Everyone,
    /// The page that asked; with its credentials, but for one whose origin is `null`, which every page
    /// can make its own.
    Page(HeaderValue),
    /// No page, or not this one.
    Nobody,
}

impl Readers {
    pub fn of<B>(request: &Request<B>, origins: Origins<'_>) -> Self {
        match request.headers().get(header::ORIGIN) {
            _ if origins.is_open() => Self::Everyone,
            Some(origin) if origins.allow(request) => Self::Page(origin.clone()),
            _ => Self::Nobody,
        }
    }

    /// Of an answer to what could not be read as a request.
    pub fn unasked(origins: Origins<'_>) -> Self {
        if origins.is_open() { Self::Everyone } else { Self::Nobody }
    }

    /// Says it in an answer's headers.
    pub fn tell(&self, answer: &mut Answer) {
        for (name, value) in self.headers() {
            answer.headers_mut().append(name, value);
        }
    }

    /// Says it in the lines of a head that is not HTTP's own, each with its end.
    pub fn lines(&self) -> Vec<u8> {
        let line = |(name, value): (HeaderName, HeaderValue)| {
            [spelled(&name).as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
        };
        self.headers().into_iter().flat_map(line).collect()
    }

    fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let vary = (header::VARY, HeaderValue::from_static("Origin"));
        let exposed = (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        let allowed = |origin| (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        match self {
            Self::Everyone => vec![allowed(HeaderValue::from_static("*")), exposed],
            Self::Page(origin) if origin == "null" => vec![allowed(origin.clone()), exposed, vary],
            Self::Page(origin) => {
                let with_credentials = HeaderValue::from_static("true");
                let credentials = (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, with_credentials);
                vec![allowed(origin.clone()), credentials, exposed, vary]
            }
            // A cache must not give this answer to a page that may read it.
            Self::Nobody => vec![vary],
        }
    }
}

/// As people write it; some small clients compare letter by letter.
fn spelled(name: &HeaderName) -> String {
    let mut is_first = true;
    let spell = |letter: char| {
        let is_capital = std::mem::replace(&mut is_first, letter == '-');
        if is_capital { letter.to_ascii_uppercase() } else { letter }
    };
    name.as_str().chars().map(spell).collect()
}
