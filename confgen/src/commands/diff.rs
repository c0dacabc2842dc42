//! Two texts, line by line.

/// Texts whose middle is longer are shown as all gone and all new: the table grows with the square.
const MAX_LINES: usize = 2000;

/// Lines of `old` that `new` has not, with `-`, and those of `new` alone, with `+`, each where it
/// stands; one unchanged line on either side. Empty where the texts are the same.
pub(super) fn lines(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let pairs = old.iter().zip(&new);
    let head = pairs.take_while(|(one, other)| one == other).count();
    let (rest, other) = (&old[head..], &new[head..]);
    let pairs = rest.iter().rev().zip(other.iter().rev());
    let tail = pairs.take_while(|(one, other)| one == other).count();
    let (gone, come) = (&rest[..rest.len() - tail], &other[..other.len() - tail]);
    if gone.is_empty() && come.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    let mut say = |mark: char, line: &str| {
        text.extend([mark, ' ']);
        text.push_str(line);
        text.push('\n');
    };
    if let Some(before) = head.checked_sub(1).and_then(|index| old.get(index)) {
        say(' ', before);
    }
    for (mark, line) in middle(gone, come) {
        say(mark, line);
    }
    if let Some(after) = old.get(old.len() - tail) {
        say(' ', after);
    }
    text
}

/// By the longest common subsequence.
fn middle<'a>(gone: &[&'a str], come: &[&'a str]) -> Vec<(char, &'a str)> {
    let all = |mark| move |line: &&'a str| (mark, *line);
    if gone.len().max(come.len()) > MAX_LINES {
        let gone = gone.iter().map(all('-'));
        return gone.chain(come.iter().map(all('+'))).collect();
    }
    // How long the longest common subsequence of what follows is.
    let mut common = vec![vec![0_u16; come.len() + 1]; gone.len() + 1];
    for row in (0..gone.len()).rev() {
        for column in (0..come.len()).rev() {
            common[row][column] = if gone[row] == come[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut found = Vec::new();
    while let (Some(one), Some(other)) = (gone.get(row), come.get(column)) {
        if one == other {
            found.push((' ', *one));
            (row, column) = (row + 1, column + 1);
        } else if common[row + 1][column] >= common[row][column + 1] {
            found.push(('-', *one));
            row += 1;
        } else {
            found.push(('+', *other));
            column += 1;
        }
    }
    found.extend(gone[row..].iter().map(all('-')));
    found.extend(come[column..].iter().map(all('+')));
    found
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn only_what_differs_is_shown_with_its_neighbours() {
        for (old, new, expected) in [
            ("a\nb\n", "a\nb\n", ""),
            ("a\nb\nc\nd\n", "a\nb\nx\nd\n", "  b\n- c\n+ x\n  d\n"),
            ("", "a\n", "+ a\n"),
            ("a\n", "", "- a\n"),
            ("a\nb\nc\nd\n", "b\nc\ne\n", "- a\n  b\n  c\n- d\n+ e\n"),
            ("a\na\n", "a\n", "  a\n- a\n"),
        ] {
            assert_eq!(lines(old, new), expected, "{old:?} {new:?}");
        }
    }
}
