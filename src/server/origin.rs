//! Web pages of other places: who of them may use this service, and what their browser is told.
//!
//! A request without `Origin` comes from no page: this is no protection from other programs. A
//! stream's request from a page that is not allowed is refused; other answers are public, and all
//! that happens to them is that the browser does not show them to such a page.

use hyper::Request;
use hyper::header::{self, HeaderMap, HeaderValue};

use super::answer::Answer;
use crate::config::AllowedOrigin;

/// Every page may.
const EVERYONE: HeaderValue = HeaderValue::from_static("*");

/// Whether the page that sent `request`, if one did, may have a stream.
pub fn is_allowed<B>(request: &Request<B>, allowed: &[AllowedOrigin]) -> bool {
    is_open(allowed) || origins(request.headers()).all(|origin| may(origin, allowed))
}

/// Sets who may read `answer` in a browser: everyone, or the page that asked if it may.
pub fn tell<B>(request: &Request<B>, allowed: &[AllowedOrigin], answer: &mut Answer) {
    let headers = answer.headers_mut();
    if is_open(allowed) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, EVERYONE);
        return;
    }
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    match request.headers().get(header::ORIGIN).filter(|_| is_allowed(request, allowed)) {
        Some(origin) => headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
        None => headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN),
    };
}

fn is_open(allowed: &[AllowedOrigin]) -> bool {
    allowed.is_empty() || allowed.contains(&AllowedOrigin::Any)
}

fn may(origin: &HeaderValue, allowed: &[AllowedOrigin]) -> bool {
    origin.to_str().is_ok_and(|origin| allowed.iter().any(|allowed| allowed.allows(origin)))
}

/// All of them: what stands twice is as suspicious as what stands for nobody.
fn origins(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    headers.get_all(header::ORIGIN).into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origins: &[&str]) -> Request<()> {
        let mut request = Request::new(());
        for origin in origins {
            request.headers_mut().append(header::ORIGIN, origin.parse().expect("a header"));
        }
        request
    }

    #[test]
    fn all_origins_of_a_request_must_be_allowed() {
        let listed: Vec<AllowedOrigin> = vec!["https://a.example".parse().expect("an origin")];
        let any = vec![AllowedOrigin::Any];
        for (origins, allowed, expected) in [
            (&[][..], &listed, true),
            (&["https://a.example"], &listed, true),
            (&["https://b.example"], &listed, false),
            (&["null"], &listed, false),
            (&["https://a.example", "https://b.example"], &listed, false),
            (&["https://b.example"], &any, true),
            (&["https://b.example"], &vec![], true),
        ] {
            assert_eq!(is_allowed(&request(origins), allowed), expected, "{origins:?} {allowed:?}");
        }
    }

    #[test]
    fn an_answer_names_the_page_that_may_read_it() {
        let listed: Vec<AllowedOrigin> = vec!["https://a.example".parse().expect("an origin")];
        for (origins, allowed, expected) in [
            (&[][..], &vec![], Some("*")),
            (&["https://b.example"], &vec![], Some("*")),
            (&[], &listed, None),
            (&["https://a.example"], &listed, Some("https://a.example")),
            (&["https://b.example"], &listed, None),
        ] {
            let mut answer = crate::server::answer::preflight();
            tell(&request(origins), allowed, &mut answer);
            let told = answer.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
            let told = told.map(|value| value.to_str().expect("text"));
            assert_eq!(told, expected, "{origins:?} {allowed:?}");
            assert_eq!(answer.headers().contains_key(header::VARY), !allowed.is_empty());
        }
    }
}
