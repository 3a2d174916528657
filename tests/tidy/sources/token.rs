//! Rust source cut into words, without its comments and without what its literals say.
//!
//! Knows as much of the language as that takes: no grammar, no macros, no raw identifiers.

/// An identifier, `::`, a literal (as `""`), or any other single character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// From 1; of a literal the line on which it ends.
    pub line: usize,
}

/// The tokens of `source` in order.
pub fn tokens(source: &str) -> Vec<Token> {
    let (mut rest, mut line, mut tokens) = (source, 1, Vec::new());
    while let Some(first) = rest.chars().next() {
        let (length, is_kept) = match first {
            _ if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            _ if rest.starts_with("/*") => (comment_bytes(rest), false),
            _ if literal_bytes(rest).is_some() => (literal_bytes(rest).unwrap_or(0), true),
            '\'' => (1, false),
            _ if is_word(first) => (word_bytes(rest), true),
            _ if rest.starts_with("::") => (2, true),
            _ => (first.len_utf8(), !first.is_whitespace()),
        };
        let (text, behind) = rest.split_at(length);
        line += text.matches('\n').count();
        if is_kept {
            let is_literal = literal_bytes(rest).is_some();
            tokens.push(Token { text: if is_literal { "\"\"" } else { text }.into(), line });
        }
        rest = behind;
    }
    tokens
}

/// Whether these words stand at `at`.
pub fn follow(tokens: &[Token], at: usize, words: &[&str]) -> bool {
    let found = tokens.get(at..at + words.len());
    found.is_some_and(|found| {
        found.iter().map(|token| token.text.as_str()).eq(words.iter().copied())
    })
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn word_bytes(text: &str) -> usize {
    text.find(|letter| !is_word(letter)).unwrap_or(text.len())
}

/// The length of the block comment that `text` begins with; they nest.
fn comment_bytes(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        match () {
            () if rest.starts_with(b"/*") => (depth, at) = (depth + 1, at + 2),
            () if rest.starts_with(b"*/") => (depth, at) = (depth - 1, at + 2),
            () => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of the string or character that `text` begins with, if it does.
fn literal_bytes(text: &str) -> Option<usize> {
    let unprefixed = ["br", "cr", "b", "c", "r"].iter().find_map(|prefix| {
        let rest = text.strip_prefix(prefix)?;
        rest.starts_with(['"', '#', '\'']).then_some((rest, prefix.contains('r')))
    });
    let (body, is_raw) = unprefixed.unwrap_or((text, false));
    let prefix_bytes = text.len() - body.len();
    let length = match body.as_bytes().first()? {
        b'"' | b'#' if is_raw => {
            let hashes = body.len() - body.trim_start_matches('#').len();
            let inside = body[hashes..].strip_prefix('"')?;
            let end = format!("\"{}", "#".repeat(hashes));
            hashes + 1 + inside.find(&end).map_or(inside.len(), |at| at + end.len())
        }
        b'"' => 1 + quoted_bytes(&body[1..], '"')?,
        b'\'' => {
            let mut letters = body[1..].chars();
            let (first, second) = (letters.next()?, letters.next());
            let is_character = first == '\\' || second == Some('\'');
            is_character.then(|| quoted_bytes(&body[1..], '\''))?.map(|length| 1 + length)?
        }
        _ => return None,
    };
    Some(prefix_bytes + length)
}

/// The length up to and with the first `quote` that no backslash hides.
fn quoted_bytes(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.find(|letter| {
        let is_end = letter == quote && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        is_end
    });
    end.map(|at| at + 1)
}

#[test]
fn comments_and_what_literals_say_are_no_tokens() {
    let check = |source: &str, expected: &str| {
        let found: Vec<String> = tokens(source).into_iter().map(|token| token.text).collect();
        assert_eq!(found.join(" "), expected, "of {source}");
    };
    check("use a::b_1; // c\n/* d /* e */ f */ g", "use a :: b_1 ; g");
    check(r#"x("amqp://a\"b", 'c', '\'', b'd', b"e")"#, r#"x ( "" , "" , "" , "" , "" )"#);
    check("r\"a\\\" b r#\"c\"d\"# e", "\"\" b \"\" e");
    check("fn f<'a>(x: &'a str) {}", "fn f < a > ( x : & a str ) { }");
    check("'unfinished: loop {}", "unfinished : loop { }");
    let lines: Vec<usize> = tokens("a\n\"b\nc\"\nd").iter().map(|token| token.line).collect();
    assert_eq!(lines, [1, 3, 4]);
}
