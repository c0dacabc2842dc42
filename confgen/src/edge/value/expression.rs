//! Regular expressions that mean the same to every engine.

/// Compiles an expression in RE2's syntax that PCRE takes as well.
///
/// # Errors
/// Why it does not compile, or that a quantifier follows another: PCRE refuses `a?*`, and takes `a*+` for
/// something else.
pub fn check(text: &str) -> Result<(), String> {
    if stacks_quantifiers(text) {
        return Err(
            "a quantifier follows another, which engines understand differently".to_owned(),
        );
    }
    let compiled = regex::Regex::new(text);
    compiled
        .map(drop)
        .map_err(|error| format!("the expression does not compile: {error}"))
}

fn stacks_quantifiers(text: &str) -> bool {
    let (mut is_escaped, mut in_class) = (false, false);
    // 1 behind a quantifier, 2 behind one that is lazy.
    let mut quantified = 0;
    for byte in text.bytes() {
        let is_quantifier = matches!(byte, b'*' | b'+' | b'?' | b'{') && !is_escaped && !in_class;
        if is_quantifier && quantified > 0 {
            if byte != b'?' || quantified == 2 {
                return true;
            }
            quantified = 2;
            continue;
        }
        let ends_count = byte == b'}' && !is_escaped && !in_class;
        quantified = u8::from((is_quantifier && byte != b'{') || ends_count);
        if is_escaped {
            is_escaped = false;
            continue;
        }
        match byte {
            b'\\' => is_escaped = true,
            b'[' => in_class = true,
            b']' => in_class = false,
            // `(?` begins a group.
            b'(' => quantified = 0,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_engines_understand_differently_is_refused() {
        for good in [
            "a*?", "a+", "(?:a+)?", "[*+]+", r"\*+", "a{2}?", "(?i)a", "^/a?b*$",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [":?*1", "a**", "a*+", "a??*", "a{2}*", "a+{2}", "("] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
