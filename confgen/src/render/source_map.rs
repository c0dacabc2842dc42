//! Which line of a template made which line of its output.
//!
//! The template is rendered once more with a mark at the beginning of each of its lines that begins
//! in text; without the marks the output must be the same.

/// Stands before and behind a line's number: no template has it.
const MARK: char = '\u{e001}';

/// The template with its marks.
pub(super) fn marked(source: &str) -> String {
    let mut marked = String::with_capacity(source.len() * 2);
    // The end of the tag that a line begins in.
    let mut open: Option<&str> = None;
    let mut is_raw = false;
    for (index, line) in source.split_inclusive('\n').enumerate() {
        if open.is_none() {
            marked.push_str(&format!("{MARK}{}{MARK}", index + 1));
        }
        marked.push_str(line);
        let mut rest = line;
        loop {
            match open {
                Some(end) => match rest.find(end) {
                    None => break,
                    Some(at) => {
                        rest = rest.get(at + end.len()..).unwrap_or_default();
                        open = None;
                    }
                },
                None => match next_tag(rest, is_raw) {
                    None => break,
                    Some((at, end)) => {
                        let tag = rest.get(at..).unwrap_or_default();
                        let word = tag.trim_start_matches(['{', '%', '-', '+']).trim_start();
                        if end == "%}" {
                            is_raw =
                                word.starts_with("raw") || (is_raw && !word.starts_with("endraw"));
                        }
                        rest = tag.get(2..).unwrap_or_default();
                        open = Some(end);
                    }
                },
            }
        }
    }
    marked
}

/// Where the next tag begins, and how it ends.
fn next_tag(text: &str, is_raw: bool) -> Option<(usize, &'static str)> {
    let tags = [("{%", "%}"), ("{{", "}}"), ("{#", "#}")];
    let tags = if is_raw { &tags[..1] } else { &tags[..] };
    let found = tags
        .iter()
        .filter_map(|(start, end)| text.find(start).map(|at| (at, *end)));
    found.min()
}

/// The line of each output line; `None` where the marked output is not the same.
pub(super) fn lines(marked: &str, text: &str) -> Option<Vec<Option<usize>>> {
    let mut plain = String::with_capacity(text.len());
    let mut lines = Vec::new();
    let mut last = None;
    for line in marked.split_inclusive('\n') {
        let mut of_line = None;
        for (index, part) in line.split(MARK).enumerate() {
            if index % 2 == 1 {
                last = Some(part.parse().ok()?);
            } else if !part.is_empty() {
                // The first text of a line tells where it is from; what is in it may be longer.
                of_line = of_line.or(last);
                plain.push_str(part);
            }
        }
        // A mark alone behind the last line's end is no line.
        if !line.split(MARK).step_by(2).all(str::is_empty) {
            lines.push(of_line);
        }
    }
    (plain == text).then_some(lines)
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use crate::output::Grammar;
    use crate::render::Template;

    #[track_caller]
    fn check(source: &str, expected: &[Option<usize>]) {
        let template = Template::compile("t", source, Grammar::Plain).expect("a template");
        let values = context! { list => vec!["a", "b"], yes => true };
        let map = template.source_map(&values).expect("a map");
        assert_eq!(map, expected, "{source}");
    }

    #[test]
    fn lines_are_found() {
        check("a\nb\n", &[Some(1), Some(2)]);
        check(
            "head\n{% for x in list %}\n{{ x }}\n{% if yes %}\nyes\n{% endif %}\n{% endfor %}\nend\n",
            &[Some(1), Some(3), Some(5), Some(3), Some(5), Some(8)],
        );
        check("{% if\n yes %}\na\n{% endif %}\nb\n", &[Some(3), Some(5)]);
        check("{# a\nb #}\nc\n", &[Some(3)]);
        check("{% raw %}\n{{ x }}\n{% endraw %}\nb\n", &[Some(2), Some(4)]);
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        check("a\n  {%- if yes %}b{% endif %}\n", &[None]);
    }
}
