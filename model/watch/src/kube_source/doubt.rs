//! Whether a list is believed.
//!
//! An API server over a lost or restored etcd answers politely with nothing, or with a state of
//! the past. Programming that would tear down every Service of the node, so such a list has to be
//! confirmed while the last known objects stay in force:
//! - *empty* where objects were known: the next list has to agree;
//! - *old* (resourceVersion below one already seen): [`OLD_LISTS`] lists in a row have to agree.
//!   It is believed in the end because restoring etcd from a backup is a legitimate operation.

/// Lists in a row that have to be old before the past is taken for the present. With the default
/// pauses that is 4 to 8 seconds, on each API server in turn.
pub(super) const OLD_LISTS: u32 = 5;

/// Lists in a row that have to be empty.
pub(super) const EMPTY_LISTS: u32 = 2;

/// Why a list is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// No object, though `known` were there.
    Empty { known: usize },
    /// Version `listed`, though `seen` was seen.
    Old { listed: u64, seen: u64 },
}

/// Doubtful lists in a row.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    empty: u32,
    old: u32,
}

impl Doubts {
    /// Judges a list of `count` objects at version `listed`; `known` objects and version `seen`
    /// are in force. Versions are `None` where they are no numbers, and then say nothing.
    pub(super) fn judge(
        &mut self,
        count: usize,
        listed: Option<u64>,
        known: usize,
        seen: Option<u64>,
    ) -> Result<(), Doubt> {
        let old = listed.zip(seen).filter(|(listed, seen)| listed < seen);
        let empty = count == 0 && known > 0;
        self.old = if old.is_some() { self.old + 1 } else { 0 };
        self.empty = if empty { self.empty + 1 } else { 0 };
        if let Some((listed, seen)) = old
            && self.old < OLD_LISTS
        {
            return Err(Doubt::Old { listed, seen });
        }
        if empty && self.empty < EMPTY_LISTS {
            return Err(Doubt::Empty { known });
        }
        *self = Self::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges the same list again and again until it is believed.
    fn lists_until_believed(count: usize, listed: u64, known: usize, seen: u64) -> u32 {
        let mut doubts = Doubts::default();
        (1..100)
            .find(|_| doubts.judge(count, Some(listed), known, Some(seen)).is_ok())
            .expect("every list is believed in the end")
    }

    #[test]
    fn only_empty_and_old_lists_need_confirmation() {
        assert_eq!(lists_until_believed(3, 20, 3, 10), 1);
        assert_eq!(lists_until_believed(1, 20, 3, 10), 1);
        assert_eq!(lists_until_believed(3, 10, 3, 10), 1);
        assert_eq!(lists_until_believed(0, 10, 0, 10), 1);
        assert_eq!(lists_until_believed(0, 20, 3, 10), EMPTY_LISTS);
        assert_eq!(lists_until_believed(3, 9, 3, 10), OLD_LISTS);
        assert_eq!(lists_until_believed(0, 9, 3, 10), OLD_LISTS);
    }

    #[test]
    fn a_good_list_in_between_starts_the_count_again() {
        let mut doubts = Doubts::default();
        assert!(doubts.judge(0, Some(11), 3, Some(10)).is_err());
        assert!(doubts.judge(2, Some(12), 3, Some(10)).is_ok());
        assert!(doubts.judge(0, Some(13), 2, Some(12)).is_err());
    }

    #[test]
    fn versions_that_are_no_numbers_raise_no_doubt() {
        assert_eq!(Doubts::default().judge(3, None, 3, Some(10)), Ok(()));
    }
}
