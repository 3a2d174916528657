//! What may be meant by a path that leads nowhere. Pure.

/// Paths further off than this are no slip of the pen.
const SIMILARITY_MIN: f64 = 0.75;
/// Longer ones are not compared.
const COMPARED_BYTES_MAX: usize = 128;

/// Which of `known` somebody may mean who asks for `path`.
pub fn meant(path: &str, known: &[&'static str]) -> Option<&'static str> {
    if path.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let lower = path.to_ascii_lowercase();
    let known = || known.iter().copied().filter(|known| *known != "/");
    // A proxy left its own prefix in front.
    let behind_prefix = known().find(|known| lower.ends_with(known));
    let begun = known().find(|known| {
        lower.len() > 1 && known.strip_prefix(&*lower).is_some_and(|rest| rest.starts_with('/'))
    });
    let similar = || {
        let similarities =
            known().map(|known| (strsim::normalized_damerau_levenshtein(known, &lower), known));
        let near = similarities.filter(|(similarity, _)| *similarity >= SIMILARITY_MIN);
        near.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
    };
    behind_prefix.or(begun).or_else(similar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_meant_is_found_where_it_is_near() {
        let known = ["/", "/api/v1", "/api/v1/streams/valid_transactions", "/health/ready"];
        for (path, expected) in [
            ("/chain/api/v1/streams/valid_transactions", Some(known[2])),
            ("/api/v1/streams/Valid_Transactions", Some(known[2])),
            ("/api/v1/streams/valid-transaction", Some(known[2])),
            ("/api/v1/streams", Some(known[2])),
            ("/api", Some(known[1])),
            ("/api/v2", Some(known[1])),
            ("/health", Some(known[3])),
            ("/favicon.ico", None),
            ("", None),
            ("/", None),
            (&format!("/{}/api/v1", "x".repeat(200)), None),
        ] {
            assert_eq!(meant(path, &known), expected, "{path}");
        }
    }
}
