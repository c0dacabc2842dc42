//! Which sizes get through to whom: a bisection over rounds of packets to all at once.

use std::time::Duration;

use super::facts::Passed;
use crate::sys::echo::{LEAST, Question};

/// For the first packets: neighbours are resolved, and a round trip around the world is 300 ms.
const FIRST: Duration = Duration::from_millis(500);
/// For each step of the bisection, of which there are 14 for jumbo frames.
const STEP: Duration = Duration::from_millis(250);
/// A packet may be lost for another reason than its size.
const TRIES: usize = 2;

/// Finds out. Takes 5.5 s at most, and two round trips where all is well.
///
/// # Errors
/// Where `ask` fails.
pub(super) fn probe<E>(
    questions: &[Question],
    mut ask: impl FnMut(&[Question], Duration) -> Result<Vec<bool>, E>,
) -> Result<Vec<Passed>, E> {
    let mut tried = |sizes: &[(usize, u32)], patience| -> Result<Vec<usize>, E> {
        let mut left = sizes.to_vec();
        let mut passed = Vec::new();
        for _ in 0..TRIES {
            let round: Vec<Question> = left
                .iter()
                .map(|(index, size)| Question {
                    size: *size,
                    ..questions[*index].clone()
                })
                .collect();
            if round.is_empty() {
                break;
            }
            let answers = ask(&round, patience)?;
            let mut answered = answers.into_iter();
            left.retain(|(index, _)| {
                let answered = answered.next() == Some(true);
                if answered {
                    passed.push(*index);
                }
                !answered
            });
        }
        Ok(passed)
    };
    let all: Vec<_> = (0..questions.len()).map(|index| (index, LEAST)).collect();
    let alive = tried(&all, FIRST)?;
    let full: Vec<_> = alive
        .iter()
        .map(|index| (*index, questions[*index].size))
        .collect();
    let whole = tried(&full, FIRST)?;
    let mut passed = vec![Passed::Nothing; questions.len()];
    for index in &whole {
        passed[*index] = Passed::All;
    }
    // The size that passes, and the one that does not.
    let mut bounds: Vec<(usize, u32, u32)> = full
        .into_iter()
        .filter(|(index, _)| !whole.contains(index))
        .map(|(index, size)| (index, LEAST, size))
        .collect();
    while bounds.iter().any(|(_, low, high)| high - low > 1) {
        let middle: Vec<_> = bounds
            .iter()
            .filter(|(_, low, high)| high - low > 1)
            .map(|(index, low, high)| (*index, low.midpoint(*high)))
            .collect();
        let through = tried(&middle, STEP / 2)?;
        for (index, size) in middle {
            let bound = bounds.iter_mut().find(|(of, _, _)| *of == index);
            if let Some((_, low, high)) = bound {
                if through.contains(&index) {
                    *low = size;
                } else {
                    *high = size;
                }
            }
        }
    }
    for (index, low, _) in bounds {
        passed[index] = Passed::UpTo(low);
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_size_that_passes_is_found_whatever_is_lost_once() {
        let question = |last: u8, size| Question {
            to: [10, 0, 0, last].into(),
            size,
            through: None,
        };
        let questions = [
            question(0, 1500),
            question(1, 1500),
            question(2, 9000),
            question(3, 1500),
        ];
        let limits = [1500, 1399, 1472, 0];
        let mut lost = true;
        let passed = probe(&questions, |round, _| {
            // The first round gets lost as a whole.
            let answer = !std::mem::take(&mut lost);
            let passes = |question: &Question| {
                let index = questions.iter().position(|known| known.to == question.to);
                answer && question.size <= limits[index.unwrap()]
            };
            Ok::<_, ()>(round.iter().map(passes).collect())
        });
        let expected = [
            Passed::All,
            Passed::UpTo(1399),
            Passed::UpTo(1472),
            Passed::Nothing,
        ];
        assert_eq!(passed.unwrap(), expected);
    }
}
