//! What is measured: rows (which files, over what) and lines (who transfers them).

use super::files::FileSet;
use crate::link::Shape;
use clap::ValueEnum;
use std::time::Duration;

const MB: u64 = 1_000_000;

/// Who transfers: a line of a row's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Line {
    TcpCubic,
    TcpBbr,
    Upload,
    Download,
    RelayedUpload,
    RelayedDownload,
    WebrtcUpload,
    WebrtcDownload,
    Scp,
    Rsync,
    Aiortc,
    ToAiortc,
    FromAiortc,
}

impl Line {
    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpCubic => "TCP CUBIC",
            Self::TcpBbr => "TCP BBR",
            Self::Upload => "ours direct, package",
            Self::Download => "ours direct, result",
            Self::RelayedUpload => "ours relayed, package",
            Self::RelayedDownload => "ours relayed, result",
            Self::WebrtcUpload => "ours over WebRTC, package",
            Self::WebrtcDownload => "ours over WebRTC, result",
            Self::Scp => "scp",
            Self::Rsync => "rsync",
            Self::Aiortc => "aiortc to aiortc",
            Self::ToAiortc => "ours to aiortc",
            Self::FromAiortc => "aiortc to ours",
        }
    }
}

/// What can be chosen with `--peers`: each gives one line, our programs two for each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    TcpCubic,
    TcpBbr,
    Ours,
    Relayed,
    Webrtc,
    Scp,
    Rsync,
    Aiortc,
    ToAiortc,
    FromAiortc,
}

impl Contender {
    pub fn lines(self) -> &'static [Line] {
        match self {
            Self::TcpCubic => &[Line::TcpCubic],
            Self::TcpBbr => &[Line::TcpBbr],
            Self::Ours => &[Line::Upload, Line::Download],
            Self::Relayed => &[Line::RelayedUpload, Line::RelayedDownload],
            Self::Webrtc => &[Line::WebrtcUpload, Line::WebrtcDownload],
            Self::Scp => &[Line::Scp],
            Self::Rsync => &[Line::Rsync],
            Self::Aiortc => &[Line::Aiortc],
            Self::ToAiortc => &[Line::ToAiortc],
            Self::FromAiortc => &[Line::FromAiortc],
        }
    }
}

/// What is between the two ends, and where the files are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Over {
    /// Loopback, files in memory.
    Loopback,
    /// Loopback, files on disk.
    Disk,
    /// An emulated link (Mbit/s, round trip in ms, loss in percent), files in memory.
    Link(u32, u64, f64),
}

impl Over {
    /// What the link does to packets, if it is one.
    pub fn shape(self, seed: u64) -> Option<Shape> {
        let Self::Link(rate_mbit, round_trip_ms, loss_percent) = self else { return None };
        let round_trip = Duration::from_millis(round_trip_ms);
        Some(Shape::new(rate_mbit, round_trip, loss_percent / 100.0, seed))
    }
}

/// What happens in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum What {
    /// Files go across; aiortc, which is slow, gets so many bytes of them.
    Transfer { files: FileSet, aiortc_bytes: u64, peers: &'static [Contender] },
    /// A package of so many bytes goes across, then again with one line changed.
    Again { bytes: u64 },
    /// The client is killed when half of the file is there, and another sends it again.
    Resume { bytes: u64 },
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// For `--rows`.
    pub name: &'static str,
    pub over: Over,
    pub what: What,
    /// How long one transfer may take.
    pub limit: Duration,
    /// It takes so much time or space that it runs only when it is named.
    pub is_rare: bool,
}

use Contender::{
    Aiortc, FromAiortc, Ours, Relayed, Rsync, Scp, TcpBbr, TcpCubic, ToAiortc, Webrtc,
};
const ALL: &[Contender] =
    &[TcpBbr, Ours, Relayed, Webrtc, Scp, Rsync, Aiortc, ToAiortc, FromAiortc];
const WITHOUT_AIORTC: &[Contender] = &[TcpBbr, Ours, Relayed, Webrtc, Scp, Rsync];
const FILES: &[Contender] = &[TcpBbr, Ours, Scp, Rsync];
const LINKS: &[Contender] = &[TcpCubic, TcpBbr, Ours, Relayed, Webrtc, Rsync, Aiortc];

/// All rows.
pub fn rows() -> Vec<Row> {
    let one = |mb, aiortc_mb, peers| What::Transfer {
        files: FileSet::One(mb * MB),
        aiortc_bytes: aiortc_mb * MB,
        peers,
    };
    let row = |name, over, what, limit_s| {
        let limit = Duration::from_secs(limit_s);
        Row { name, over, what, limit, is_rare: false }
    };
    let small =
        What::Transfer { files: FileSet::Many(10_000, 10_000), aiortc_bytes: 0, peers: FILES };
    // One file of 10 GiB in a package, whose result is small: 22 GB of disk.
    let huge = FileSet::Many(1, 10 << 30);
    let huge = What::Transfer { files: huge, aiortc_bytes: 0, peers: &[Ours] };
    let link = |name, mbit, ms, loss, mb, aiortc_mb| {
        row(name, Over::Link(mbit, ms, loss), one(mb, aiortc_mb, LINKS), 90)
    };
    vec![
        row("100mb", Over::Loopback, one(100, 32, ALL), 60),
        row("1gb", Over::Loopback, one(1000, 0, WITHOUT_AIORTC), 120),
        row("small", Over::Loopback, small, 120),
        row("disk", Over::Disk, one(1000, 0, FILES), 120),
        row("ceiling", Over::Link(100_000, 0, 0.0), one(500, 0, &[TcpBbr]), 60),
        link("20ms", 100, 20, 0.0, 100, 16),
        link("80ms", 100, 80, 0.0, 100, 8),
        link("1gbit", 1_000, 20, 0.0, 500, 16),
        link("20ms-lossy", 100, 20, 0.1, 32, 8),
        link("80ms-lossy", 100, 80, 0.1, 16, 8),
        link("1gbit-lossy", 1_000, 20, 0.1, 64, 8),
        link("20ms-1%", 100, 20, 1.0, 32, 4),
        link("80ms-1%", 100, 80, 1.0, 16, 2),
        row("again", Over::Loopback, What::Again { bytes: 100 * MB }, 60),
        row("resume", Over::Loopback, What::Resume { bytes: 1000 * MB }, 120),
        Row { is_rare: true, ..row("10gb", Over::Disk, huge, 600) },
    ]
}

impl Row {
    /// A tenth of everything.
    pub fn quick(self) -> Self {
        let what = match self.what {
            What::Transfer { files: FileSet::One(bytes), aiortc_bytes, peers } => What::Transfer {
                files: FileSet::One(bytes / 10),
                aiortc_bytes: aiortc_bytes / 10,
                peers,
            },
            What::Transfer { files: FileSet::Many(1, bytes), aiortc_bytes, peers } => {
                What::Transfer { files: FileSet::Many(1, bytes / 10), aiortc_bytes, peers }
            }
            What::Transfer { files: FileSet::Many(count, bytes), aiortc_bytes, peers } => {
                What::Transfer { files: FileSet::Many(count / 10, bytes), aiortc_bytes, peers }
            }
            What::Again { bytes } => What::Again { bytes: bytes / 10 },
            What::Resume { bytes } => What::Resume { bytes: bytes / 10 },
        };
        Self { what, ..self }
    }

    /// For the table.
    pub fn title(&self) -> String {
        let mb = |bytes: u64| format!("{} MB", bytes as f64 / 1e6);
        let what = match self.what {
            What::Transfer { files: FileSet::One(bytes), .. } => mb(bytes),
            What::Transfer { files: FileSet::Many(1, bytes), .. } => {
                format!("a package of {}", mb(bytes))
            }
            What::Transfer { files: files @ FileSet::Many(count, _), .. } => {
                format!("{count} files, {} together", mb(files.bytes()))
            }
            What::Again { bytes } => format!("{} again, one line of YAML changed", mb(bytes)),
            What::Resume { bytes } => format!("{}, client killed at half of it", mb(bytes)),
        };
        let over = match self.over {
            Over::Loopback => "loopback".to_owned(),
            Over::Disk => "loopback, from disk to disk".to_owned(),
            Over::Link(100_000.., ..) => "the emulated link without a limit".to_owned(),
            Over::Link(mbit, ms, loss) if loss > 0.0 => {
                format!("{ms} ms, {mbit} Mbit, {loss} % lost")
            }
            Over::Link(mbit, ms, _) => format!("{ms} ms, {mbit} Mbit"),
        };
        format!("{what}: {over}")
    }
}
