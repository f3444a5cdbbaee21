//! Bounds how long a worker may send events that are not the next one.

use crate::event_cursor::Misplaced;

/// The most reconnections in a row after which an event is missing again. A connection that broke delivers
/// it the next time.
const MAX_GAPS: u32 = 3;
/// The most repeated events in a row. A connection that takes over from another one repeats fewer.
const MAX_REPEATS: u32 = 10_000;

/// The events that were not the next one, since the last one that was.
#[derive(Debug, Default)]
pub struct Disorder {
    gaps: u32,
    repeats: u32,
}

impl Disorder {
    /// The next event has arrived.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// An event has arrived again. An error in words if too many have.
    pub fn repeated(&mut self) -> Result<(), String> {
        self.repeats += 1;
        match self.repeats > MAX_REPEATS {
            true => Err(format!("more than {MAX_REPEATS} events that had arrived before")),
            false => Ok(()),
        }
    }

    /// An event is missing. An error in words if reconnecting has not brought it.
    pub fn gap(&mut self, misplaced: Misplaced) -> Result<(), String> {
        self.gaps += 1;
        match self.gaps > MAX_GAPS {
            true => Err(format!("{misplaced}, also after reconnecting")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_awaited_for_a_bounded_time() {
        let mut disorder = Disorder::default();
        let gap = Misplaced::Gap { expected: 2, arrived: 9 };
        let gaps = std::iter::repeat_with(|| disorder.gap(gap)).take_while(Result::is_ok).count();
        assert_eq!(gaps, MAX_GAPS as usize);
        disorder.end();
        let repeats = std::iter::repeat_with(|| disorder.repeated()).take_while(Result::is_ok);
        assert_eq!(repeats.count(), MAX_REPEATS as usize);
        assert!(disorder.gap(gap).is_ok());
    }
}
