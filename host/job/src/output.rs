//! What a trainer prints: decoded, divided into chunks for the log, and searched for known lines.

use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The longest text of one log event, in bytes. It must fit into one control frame, in which a control
/// character takes six bytes.
pub const CHUNK_BYTES: usize = 8 * 1024;
/// How long text waits for more before it becomes an event.
const CHUNK_AGE: Duration = Duration::from_millis(100);
/// The longest line that is searched, in bytes.
const LINE_BYTES: usize = 4096;
/// How many lines are kept to explain a failure.
const TAIL_LINES: usize = 64;

/// The stream to which something was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What the lines so far say about the run.
#[derive(Debug, Default)]
pub struct Findings {
    /// A training reported its end.
    pub finished: bool,
    /// The folder that a training writes to, as it printed it.
    pub checkpoint_folder: Option<String>,
    /// A prediction reported that it found no frame.
    pub predicted_nothing: bool,
}

/// Everything that one trainer prints.
#[derive(Debug)]
pub struct Output {
    out: Text,
    err: Text,
    pending: String,
    since: Option<Instant>,
    progress: VecDeque<Value>,
    json_lines: bool,
    findings: Findings,
}

impl Output {
    /// With `json_lines`, standard output contains progress and errors as JSON lines, which are kept out of
    /// the log.
    pub fn new(json_lines: bool) -> Self {
        Self {
            out: Text::default(),
            err: Text::default(),
            pending: String::new(),
            since: None,
            progress: VecDeque::new(),
            json_lines,
            findings: Findings::default(),
        }
    }

    /// Takes in what was read at `now`.
    pub fn push(&mut self, stream: Stream, bytes: &[u8], now: Instant) {
        let text = self.text(stream).decoder.push(bytes);
        self.take_in(stream, &text);
        if !self.pending.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    /// Ends both streams.
    pub fn finish(&mut self) {
        for stream in [Stream::Out, Stream::Err] {
            let text = self.text(stream).decoder.finish();
            self.take_in(stream, &text);
            let mut line = String::new();
            std::mem::swap(&mut line, &mut self.text(stream).line);
            self.end_line(stream, line, "");
        }
    }

    fn text(&mut self, stream: Stream) -> &mut Text {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }

    fn take_in(&mut self, stream: Stream, text: &str) {
        let holds_back = self.holds_back(stream);
        if !holds_back {
            self.pending.push_str(text);
        }
        for part in text.split_inclusive(['\n', '\r']) {
            let ended = part.ends_with(['\n', '\r']);
            let (content, end) = part.split_at(part.len() - usize::from(ended));
            let line = &mut self.text(stream).line;
            line.push_str(content);
            if ended || line.len() > LINE_BYTES {
                let line = std::mem::take(line);
                self.end_line(stream, line, end);
            }
        }
    }

    /// Whether text of this stream waits for the end of its line, because the line may contain
    /// progress.
    fn holds_back(&self, stream: Stream) -> bool {
        self.json_lines && stream == Stream::Out
    }

    fn end_line(&mut self, stream: Stream, line: String, end: &str) {
        if self.holds_back(stream) {
            match json_line(&line) {
                Some(JsonLine::Progress(message)) => {
                    self.findings.predicted_nothing |= message["n_total"] == 0;
                    return self.progress.push_back(message);
                }
                // The traceback on stderr says the same.
                Some(JsonLine::Error) => return,
                None => self.pending.extend([line.as_str(), end]),
            }
        }
        self.findings.read(&line);
        let line = line.trim_end();
        if !line.is_empty() {
            let tail = &mut self.text(stream).tail;
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(line.to_owned());
        }
    }

    /// The next progress message that was printed.
    pub fn next_progress(&mut self) -> Option<Value> {
        self.progress.pop_front()
    }

    /// When the text so far becomes an event.
    pub fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + CHUNK_AGE)
    }

    /// Text for an event: a whole chunk, or the rest if it is due or `everything` is true.
    pub fn next_chunk(&mut self, now: Instant, everything: bool) -> Option<String> {
        let rest = everything || self.due().is_some_and(|due| due <= now);
        if self.pending.is_empty() || (!rest && self.pending.len() < CHUNK_BYTES) {
            return None;
        }
        let mut end = self.pending.len().min(CHUNK_BYTES);
        while !self.pending.is_char_boundary(end) {
            end -= 1;
        }
        let later = self.pending.split_off(end);
        let chunk = std::mem::replace(&mut self.pending, later);
        if self.pending.is_empty() {
            self.since = None;
        }
        Some(chunk)
    }

    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The last lines of a stream, oldest first.
    pub fn tail(&self, stream: Stream) -> &VecDeque<String> {
        match stream {
            Stream::Out => &self.out.tail,
            Stream::Err => &self.err.tail,
        }
    }
}

impl Findings {
    fn read(&mut self, line: &str) {
        // A progress bar may precede it on the line.
        self.finished |= line.contains("Finished training at");
        if let Some((_, rest)) = line.split_once("Setting up model ckpt dir: `")
            && let Some((folder, _)) = rest.split_once('`')
        {
            self.checkpoint_folder = Some(folder.to_owned());
        }
    }
}

/// A line for the program that started the trainer.
enum JsonLine {
    /// Such as `{"n_processed": 8, "n_total": 12, …}`.
    Progress(Value),
    /// Such as `{"error": true, "type": "FileNotFoundError", "message": "…"}`.
    Error,
}

fn json_line(line: &str) -> Option<JsonLine> {
    let line = line.trim();
    if !line.starts_with('{') {
        return None;
    }
    let value = serde_json::from_str::<Value>(line).ok()?;
    if value.get("n_processed").is_some() {
        return Some(JsonLine::Progress(value));
    }
    (value.get("error") == Some(&Value::Bool(true))).then_some(JsonLine::Error)
}

#[derive(Debug, Default)]
struct Text {
    decoder: Decoder,
    line: String,
    tail: VecDeque<String>,
}

/// Decodes UTF-8. Keeps an incomplete character until the rest of it arrives.
#[derive(Debug, Default)]
struct Decoder {
    rest: Vec<u8>,
}

impl Decoder {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.rest.len());
        let mut done = 0;
        for chunk in self.rest.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let at_end = done + chunk.invalid().len() == self.rest.len();
            if at_end && is_cut(chunk.invalid()) {
                break;
            }
            if !chunk.invalid().is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            done += chunk.invalid().len();
        }
        self.rest.drain(..done);
        text
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

/// Whether these bytes are the beginning of a character.
fn is_cut(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(output: &mut Output) -> String {
        std::iter::from_fn(|| output.next_chunk(Instant::now(), true)).collect()
    }

    #[test]
    fn known_lines_are_found_after_a_progress_bar() {
        let mut output = Output::new(false);
        let text = "\rEpoch 1: 100%|██| 2/22026-01-01 00:00:00 | Setting up model ckpt dir: \
            `models/r-1`...\n\rx\r2026-01-01 00:00:00 | Finished training at: now";
        output.push(Stream::Out, text.as_bytes(), Instant::now());
        assert!(!output.findings().finished, "its line has not ended");
        output.finish();
        assert!(output.findings().finished);
        assert_eq!(output.findings().checkpoint_folder.as_deref(), Some("models/r-1"));
        assert_eq!(all(&mut output), text);
    }

    #[test]
    fn lines_for_programs_do_not_reach_the_log() {
        let mut output = Output::new(true);
        let now = Instant::now();
        output.push(Stream::Out, b"{\"n_processed\": 8, \"n_tot", now);
        assert_eq!(output.next_progress(), None);
        output.push(Stream::Out, b"al\": 12}\nother\n{\"a\": 1}\n", now);
        output.push(Stream::Out, b"{\"error\": true, \"message\": \"no\"}\n", now);
        output.push(Stream::Err, b"log\n", now);
        assert_eq!(output.next_progress().unwrap()["n_total"], 12);
        assert_eq!(all(&mut output), "other\n{\"a\": 1}\nlog\n");
    }

    #[test]
    fn text_waits_briefly_for_more() {
        let mut output = Output::new(false);
        let start = Instant::now();
        output.push(Stream::Out, b"a", start);
        assert_eq!(output.next_chunk(start, false), None);
        assert_eq!(output.next_chunk(start + CHUNK_AGE, false).as_deref(), Some("a"));
        assert_eq!(output.due(), None);
        output.push(Stream::Out, &vec![b'x'; CHUNK_BYTES + 1], start);
        assert_eq!(output.next_chunk(start, false).map(|c| c.len()), Some(CHUNK_BYTES));
        assert_eq!(output.next_chunk(start, false), None);
    }

    #[test]
    fn a_chunk_of_control_characters_fits_into_a_frame() {
        use sleap_rtc_protocol::frame::{WorkerFrame, encode};
        use sleap_rtc_protocol::job::{JobEvent, NumberedEvent};
        let mut output = Output::new(false);
        output.push(Stream::Out, &[0; 2 * CHUNK_BYTES], Instant::now());
        let text = output.next_chunk(Instant::now(), false).unwrap();
        let event = NumberedEvent { seq: u64::MAX, at_ms: u64::MAX, event: JobEvent::Log { text } };
        let job = sleap_rtc_protocol::ids::JobId::new("j".repeat(64)).unwrap();
        assert!(encode(&WorkerFrame::Event { job, event }).is_ok());
    }

    proptest! {
        #[test]
        fn chunk_boundaries_do_not_change_the_text(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200
        ) {
            let mut output = Output::new(false);
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            output.push(Stream::Out, a, Instant::now());
            output.push(Stream::Out, b, Instant::now());
            output.finish();
            prop_assert_eq!(all(&mut output), String::from_utf8_lossy(&bytes));
        }
    }
}
