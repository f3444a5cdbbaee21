//! What matters of a trainer's log, for a pipe: whole lines, without the configuration and the layers of
//! the model that the trainer prints, and without bars whose progress is shown in another way.

use sleap_rtc_protocol::chart::short;
use sleap_rtc_protocol::course::Epoch;
use sleap_rtc_protocol::log_text::LogText;
use sleap_rtc_protocol::progress::JobProgress;

/// The beginnings of messages on several lines of which nobody reads each line.
const DUMPS: [&str; 3] = ["Input config:", "Backbone model:", "Head model:"];
/// What separates the time from the message.
const AFTER_TIME: &str = " |";
/// The form of the time.
const TIME: &str = "0000-00-00 00:00:00";

/// Reads a log as it comes.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    log: LogText,
    is_in_dump: bool,
    /// Whether progress bars are redundant, because the trainer also reports its progress.
    skips_bars: bool,
}

impl Digest {
    /// From now on, leaves progress bars out or shows them.
    pub(crate) fn skip_bars(&mut self, skips: bool) {
        self.skips_bars = skips;
    }

    /// Takes a part of the log and returns the lines to show.
    pub(crate) fn push(&mut self, text: &str) -> String {
        let lines = self.log.push(text);
        self.kept(&lines)
    }

    /// The last line, before a message of another kind.
    pub(crate) fn end_line(&mut self) -> String {
        let line = self.log.end_line();
        self.kept(&line)
    }

    fn kept(&mut self, lines: &str) -> String {
        let mut kept = String::new();
        for line in lines.lines().filter_map(|line| self.line(line)) {
            kept.push_str(line);
            kept.push('\n');
        }
        kept
    }

    fn line<'l>(&mut self, line: &'l str) -> Option<&'l str> {
        let Some(start) = message_start(line) else {
            let is_hidden = self.is_in_dump || is_table(line) || (self.skips_bars && is_bar(line));
            return (!is_hidden).then_some(line);
        };
        let message = line.get(start + TIME.len() + AFTER_TIME.len()..).unwrap_or_default().trim();
        // The configuration begins after a message without text.
        self.is_in_dump = match message.is_empty() {
            true => self.is_in_dump,
            false => DUMPS.iter().any(|dump| message.starts_with(dump)),
        };
        let is_shown = !self.is_in_dump && !message.is_empty();
        // A bar may stand before it on the same line.
        line.get(start..).filter(|_| is_shown)
    }
}

/// An epoch that has ended, as a line.
pub(crate) fn epoch_line(epoch: &Epoch, progress: &JobProgress) -> String {
    let losses = [("loss", epoch.loss), ("validation", epoch.validation)];
    let losses = losses.into_iter().filter_map(|(what, value)| Some((what, value?)));
    let mut facts: Vec<String> =
        losses.map(|(what, value)| format!("{what} {}", short(value))).collect();
    facts.extend(progress.left.filter(|left| left.seconds > 0).map(|left| left.to_string()));
    let number = epoch.number.saturating_add(1);
    let of = progress
        .epochs
        .filter(|all| number <= u64::from(*all))
        .map(|all| format!(" of {all}"))
        .unwrap_or_default();
    format!("Epoch {number}{of}: {}", facts.join(", "))
}

/// Where a message begins with the time, if one does.
fn message_start(line: &str) -> Option<usize> {
    let starts = line.match_indices(AFTER_TIME).filter_map(|(at, _)| at.checked_sub(TIME.len()));
    let mut starts = starts.filter(|start| {
        let time = line.get(*start..start + TIME.len()).unwrap_or_default();
        let fits =
            |(c, form): (char, char)| if form == '0' { c.is_ascii_digit() } else { c == form };
        time.len() == TIME.len() && time.chars().zip(TIME.chars()).all(fits)
    });
    starts.next()
}

/// A progress bar, as tqdm draws it.
fn is_bar(line: &str) -> bool {
    line.contains("%|") || line.contains("it/s") || line.contains("?, ?")
}

/// A line of the table of a model's layers.
fn is_table(line: &str) -> bool {
    line.starts_with(|c| ('\u{2500}'..='\u{257f}').contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
GPU available: False, used: False
2026-11-20 21:46:47 | Input config:
2026-11-20 21:46:47 |\u{20}
data_config:
  train_labels_path:
  - two.pkg.slp
filename: ''

2026-11-20 21:46:47 | Started training at: 2026-11-20 21:46:47.638315
2026-11-20 21:46:48 |\u{20}
centroid_source is NOT set: INFERRING the centroid target
2026-11-20 21:46:49 | Backbone model: UNet(
  (encoders): ModuleList(
)
2026-11-20 21:46:49 | Starting training loop...
┏━━━┳━━━┓
┃   ┃ Name  ┃
Trainable params: 33.5 K
\rEpoch 0:  50%|█████     | 1/2 [00:00<00:00]\rEpoch 0: 100%|██████████| 2/2 loss=0.04
Traceback (most recent call last):
  File \"train.py\", line 1
\rEpoch 1: 100%|██████████| 2/2 2026-11-20 21:46:50 | Finished training at: 2026-11-20
";

    #[test]
    fn the_configuration_is_left_out_and_every_message_is_kept() {
        let mut digest = Digest::default();
        digest.skip_bars(true);
        // In parts of any size.
        let parts: Vec<String> = LOG.chars().map(String::from).collect();
        let shown: String = parts.iter().map(|part| digest.push(part)).collect();
        insta::assert_snapshot!(shown + &digest.end_line(), @r#"
        GPU available: False, used: False
        2026-11-20 21:46:47 | Started training at: 2026-11-20 21:46:47.638315
        centroid_source is NOT set: INFERRING the centroid target
        2026-11-20 21:46:49 | Starting training loop...
        Trainable params: 33.5 K
        Traceback (most recent call last):
          File "train.py", line 1
        2026-11-20 21:46:50 | Finished training at: 2026-11-20
        "#);
    }

    #[test]
    fn bars_are_shown_where_nothing_else_tells_the_progress() {
        let mut digest = Digest::default();
        assert_eq!(digest.push("\rEpoch 0: 100%|███| 2/2\n"), "Epoch 0: 100%|███| 2/2\n");
    }
}
