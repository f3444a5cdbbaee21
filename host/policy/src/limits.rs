//! Limits of a call to a plugin: time, memory, log.

use super::bindings::log::{Host, Level};
use super::bindings::types;
use parking_lot::{Condvar, Mutex};
use sleap_rtc_protocol::text::Printable;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::{Engine, ResourceLimiter};

/// How often a running guest's deadline is checked.
const TICK: Duration = Duration::from_millis(5);
/// How many bytes one call may write to the log.
const LOG_BYTES: usize = 16 * 1024;
/// How much the host allocates for the data that a guest passes to it, in bytes.
pub(crate) const ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The most instances, memories and tables of a component.
pub(crate) const INSTANCES: usize = 200;
pub(crate) const MEMORIES: usize = 50;
pub(crate) const TABLES: usize = 200;
pub(crate) const TABLE_ENTRIES: usize = 100_000;

/// Limits of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallLimits {
    /// Wall-clock time until the guest is stopped.
    pub timeout_ms: u64,
    /// All linear memories of the guest together.
    pub memory_mib: u64,
}

impl CallLimits {
    /// For the embedded plugins, which are trusted and must answer even on a busy machine.
    pub(crate) const EMBEDDED: Self = Self { timeout_ms: 10_000, memory_mib: 256 };

    /// The moment after which a call that starts now is stopped.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(Duration::from_millis(self.timeout_ms))
    }
}

/// The host's state of one call.
pub(crate) struct CallState {
    plugin: Arc<str>,
    log_left: usize,
    memory_bytes: usize,
    memory_limit: usize,
    /// Whether the guest was denied memory.
    pub(crate) memory_denied: bool,
}

impl CallState {
    pub(crate) fn new(plugin: Arc<str>, limits: CallLimits) -> Self {
        let limit = limits.memory_mib.saturating_mul(1024 * 1024);
        Self {
            plugin,
            log_left: LOG_BYTES,
            memory_bytes: 0,
            memory_limit: usize::try_from(limit).unwrap_or(usize::MAX),
            memory_denied: false,
        }
    }
}

impl types::Host for CallState {}

impl Host for CallState {
    fn log(&mut self, level: Level, message: String) {
        let plugin = &*self.plugin;
        // A minimum cost prevents a guest from filling the host's log with empty lines.
        let cost = message.len().max(64);
        let Some(left) = self.log_left.checked_sub(cost) else {
            if std::mem::take(&mut self.log_left) > 0 {
                tracing::warn!(
                    plugin,
                    "the plugin logged more than {LOG_BYTES} bytes in one call; the rest is dropped"
                );
            }
            return;
        };
        self.log_left = left;
        let message = Printable::line(&message, LOG_BYTES);
        match level {
            Level::Debug => tracing::debug!(plugin, "{message}"),
            Level::Info => tracing::info!(plugin, "{message}"),
            Level::Warn => tracing::warn!(plugin, "{message}"),
            Level::Error => tracing::error!(plugin, "{message}"),
        }
    }
}

impl ResourceLimiter for CallState {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > self.memory_limit {
            self.memory_denied = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ENTRIES)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

/// Advances an engine's epoch while at least one guest runs, and bounds how many do.
pub(crate) struct Ticker {
    running: Mutex<usize>,
    most: usize,
    /// That a guest has begun.
    begun: Condvar,
    /// That a guest has ended.
    ended: Condvar,
}

impl Ticker {
    /// Starts the ticking thread. It sleeps while no guest runs, and lives as long as the process, like
    /// the engine. At most `most` guests run at once.
    pub(crate) fn start(engine: Engine, most: usize) -> std::io::Result<Arc<Self>> {
        let (begun, ended) = (Condvar::new(), Condvar::new());
        let ticker = Arc::new(Self { running: Mutex::new(0), most, begun, ended });
        let this = Arc::clone(&ticker);
        std::thread::Builder::new().name("policy-ticker".into()).spawn(move || {
            loop {
                this.begun.wait_while(&mut this.running.lock(), |running| *running == 0);
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        })?;
        Ok(ticker)
    }

    /// Ticks until the returned guard is dropped. Waits while too many guests run: each ends within its limits.
    pub(crate) fn run(&self) -> TickGuard<'_> {
        let mut running = self.running.lock();
        self.ended.wait_while(&mut running, |running| *running >= self.most);
        *running += 1;
        self.begun.notify_one();
        TickGuard(self)
    }
}

/// Keeps a [`Ticker`] ticking.
pub(crate) struct TickGuard<'a>(&'a Ticker);

impl Drop for TickGuard<'_> {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.ended.notify_one();
    }
}
