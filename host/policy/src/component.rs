//! Loads components and calls them. Every call runs in a fresh instance with limits.

use super::ExtensionPoint;
use super::bindings::FullPlugin;
use super::block::Lists;
use super::cache::Cache;
use super::explain;
use super::limits::{
    ANSWER_BYTES, CallLimits, CallState, INSTANCES, MEMORIES, TABLE_ENTRIES, TABLES, Ticker,
};
use super::questions::order::OrderLine;
use super::questions::{Check, EstimateDuration, Question, Select};
use sleap_rtc_protocol::text::Printable;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use wasmtime::component::{
    Component, ComponentExportIndex, HasSelf, Instance, InstancePre, Linker, TypedFunc,
};
use wasmtime::{Config, Enabled, Engine, PoolingAllocationConfig, Store, Trap, UpdateDeadline};

/// Why a plugin gave no usable answer. The texts follow "the plugin NAME failed:" and address its
/// author.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("it did not answer within {0} ms and was stopped (`timeout` sets the limit)")]
    Timeout(u64),
    #[error("it needed more than {0} MiB of memory and was stopped (`memory` sets the limit)")]
    Memory(u64),
    #[error("its stack overflowed and it was stopped: look for endless recursion")]
    Stack,
    #[error(
        "it panicked (reached `unreachable`): to see the reason in the log, set a panic hook that \
         calls the host's `log`"
    )]
    Panic,
    #[error(
        "it is larger than a plugin may be, which is {INSTANCES} instances, {MEMORIES} memories and \
         {TABLES} tables of {TABLE_ENTRIES} entries: {0}"
    )]
    Size(String),
    #[error("its answer is larger than {} MiB", ANSWER_BYTES / (1024 * 1024))]
    AnswerTooLarge,
    #[error("its answer breaks the contract: {0}")]
    BadAnswer(String),
    #[error("it says: {0}")]
    Said(String),
    #[error("{0}")]
    Other(String),
}

/// Where a plugin comes from. It decides how a call gets its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It is part of this program. Memory stays from call to call, and is only cleared.
    Embedded,
    /// It is a file. Each call maps memory of its own, as large as the configuration allows.
    File,
}

impl Origin {
    fn lists(self) -> Lists {
        match self {
            // These plugins never free memory.
            Self::Embedded => Lists::InOneBlock,
            Self::File => Lists::PieceByPiece,
        }
    }
}

/// The engine of all plugins of one origin.
struct Runtime {
    engine: Engine,
    linker: Linker<CallState>,
    ticker: Arc<Ticker>,
}

impl Runtime {
    fn of(origin: Origin) -> Result<&'static Self, String> {
        static EMBEDDED: LazyLock<Result<Runtime, String>> =
            LazyLock::new(|| Runtime::new(Origin::Embedded));
        static FILE: LazyLock<Result<Runtime, String>> =
            LazyLock::new(|| Runtime::new(Origin::File));
        let runtime = match origin {
            Origin::Embedded => &*EMBEDDED,
            Origin::File => &*FILE,
        };
        let why = |error| format!("the WebAssembly engine does not start: {error}");
        runtime.as_ref().map_err(why)
    }

    fn new(origin: Origin) -> Result<Self, String> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let mut calls_at_once = usize::MAX;
        if sleap_rtc_base::os::is_address_space_limited() {
            // By default the engine reserves 4 GiB for each memory. That is fastest, but it fails if
            // address space is limited.
            config
                .memory_reservation(0)
                .memory_guard_size(0)
                .memory_reservation_for_growth(1 << 20);
        } else if origin == Origin::Embedded {
            config.allocation_strategy(memory_that_stays());
            calls_at_once = POOLED_CALLS;
        }
        let engine = Engine::new(&config).map_err(|error| format!("{error:#}"))?;
        let mut linker = Linker::new(&engine);
        FullPlugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)
            .map_err(|error| format!("{error:#}"))?;
        let ticker =
            Ticker::start(engine.clone(), calls_at_once).map_err(|error| error.to_string())?;
        Ok(Self { engine, linker, ticker })
    }
}

/// How many calls may use [`memory_that_stays`] at once. Others wait for their turn, which takes milliseconds.
const POOLED_CALLS: usize = 16;

/// Memory that stays mapped from call to call. To map it anew and to touch its pages takes a third of a call about a
/// thousand workers.
fn memory_that_stays() -> PoolingAllocationConfig {
    /// Of each memory, this much is cleared and kept, and the rest goes back to the system. The records of a
    /// thousand workers take 1.2 MB.
    const KEPT_BYTES: usize = 4 << 20;
    let mut pool = PoolingAllocationConfig::new();
    let calls = POOLED_CALLS as u32;
    // Each embedded plugin has one memory and at most two tables, in a few core instances.
    pool.total_component_instances(calls)
        .total_core_instances(8 * calls)
        .total_memories(calls)
        .total_tables(4 * calls)
        .max_memory_size((CallLimits::EMBEDDED.memory_mib as usize) << 20)
        .linear_memory_keep_resident(KEPT_BYTES)
        .table_keep_resident(1 << 16)
        // Newer kernels say which pages were touched, so that small calls clear little.
        .pagemap_scan(Enabled::Auto);
    pool
}

/// A component of this size takes a second or more to compile.
const SLOW_BYTES: usize = 1 << 20;

/// Why compiling `bytes` takes a while. A plugin written in Python has 18 MB and takes ten seconds.
fn patience(bytes: usize, cache: Option<&Cache>) -> String {
    let seconds = bytes.div_ceil(2_000_000);
    let often = match cache {
        Some(_) => "this happens once for each version of the file",
        None => "this happens at every start, because there is no cache folder",
    };
    format!("{} MB take about {seconds} s; {often}", bytes.div_ceil(1_000_000))
}

/// A compiled component, not yet checked for extension points.
pub(crate) struct Compiled {
    component: Component,
    origin: Origin,
    /// Names of its imports.
    pub imports: Vec<String>,
    /// Names of its exports.
    pub exports: Vec<String>,
}

impl Compiled {
    /// Compiles `bytes`, the plugin called `name`, or loads the compiled component from the cache.
    ///
    /// # Errors
    ///
    /// A message for the plugin's author.
    pub(crate) fn new(
        name: &str,
        bytes: &[u8],
        origin: Origin,
        cache: Option<&Cache>,
    ) -> Result<Self, String> {
        let runtime = Runtime::of(origin)?;
        explain::check_header(bytes)?;
        let component = match cache.and_then(|cache| cache.find(&runtime.engine, bytes)) {
            Some(component) => component,
            None => {
                if bytes.len() >= SLOW_BYTES {
                    tracing::info!("compiling the plugin {name}: {}", patience(bytes.len(), cache));
                }
                let component = Component::from_binary(&runtime.engine, bytes)
                    .map_err(|error| explain::not_compiled(&error))?;
                if let Some(cache) = cache {
                    cache.keep(&runtime.engine, bytes, &component);
                }
                component
            }
        };
        let shape = component.component_type();
        let imports = shape.imports(&runtime.engine).map(|(name, _)| name.to_owned()).collect();
        let exports = shape.exports(&runtime.engine).map(|(name, _)| name.to_owned()).collect();
        Ok(Self { component, origin, imports, exports })
    }

    /// Instantiates it once, to find errors at `point` now rather than later.
    ///
    /// # Errors
    ///
    /// A message for the plugin's author.
    pub(crate) fn plugin(
        &self,
        name: &str,
        point: ExtensionPoint,
        limits: CallLimits,
    ) -> Result<Plugin, String> {
        let runtime = Runtime::of(self.origin)?;
        if let Some(why) = explain::another_version(&self.imports, &self.exports) {
            return Err(why);
        }
        let explain = |error| explain::not_usable(point, &self.imports, &self.exports, &error);
        let pre = runtime.linker.instantiate_pre(&self.component).map_err(explain)?;
        let guest = Guest { name: name.into(), origin: self.origin, limits, pre };
        let found = guest.enter(|store, instance| {
            let function = find(point, &self.component)?;
            check_types(point, function, store, instance)?;
            Ok(function)
        });
        let function = found.map_err(|error| match error {
            CallError::Mismatch(error) => explain(error),
            CallError::Failed(failure) => failure.to_string(),
        })?;
        Ok(Plugin { guest, function })
    }
}

/// A compiled component that has a certain extension point.
#[derive(Clone)]
pub(crate) struct Plugin {
    guest: Guest,
    function: ComponentExportIndex,
}

/// A component that can be instantiated, within limits.
#[derive(Clone)]
struct Guest {
    /// For logs and messages.
    name: Arc<str>,
    origin: Origin,
    limits: CallLimits,
    pre: InstancePre<CallState>,
}

/// The function of a guest that answers `Q`. It has a text as its own error.
type Asked<'q, Q> =
    TypedFunc<<Q as Question>::Arguments<'q>, (Result<<Q as Question>::Raw, String>,)>;

impl Plugin {
    /// Compiles `bytes` and instantiates them once, to find errors now rather than later.
    ///
    /// # Errors
    /// A message for the plugin's author.
    pub(crate) fn load(
        name: &str,
        bytes: &[u8],
        point: ExtensionPoint,
        limits: CallLimits,
        origin: Origin,
        cache: Option<&Cache>,
    ) -> Result<Self, String> {
        Compiled::new(name, bytes, origin, cache)?.plugin(name, point, limits)
    }

    /// Calls the plugin. Blocks for as long as its limits allow, so do not call it from async code.
    pub(crate) fn ask<Q: Question>(&self, question: &Q) -> Result<Q::Answer, Failure> {
        let answer = self
            .call(question)?
            .map_err(|words| Failure::Said(Printable::line(&words, 400).into()))?;
        question.check(answer).map_err(Failure::BadAnswer)
    }

    /// The guest's answer, or its own error, as it gave them.
    pub(crate) fn call<Q: Question>(
        &self,
        question: &Q,
    ) -> Result<Result<Q::Raw, String>, Failure> {
        let answer = self.guest.enter(|store, instance| {
            let function: Asked<'_, Q> = instance.get_typed_func(&mut *store, self.function)?;
            let (answer,) = function.call(store, question.arguments(self.guest.origin.lists()))?;
            Ok(answer)
        });
        answer.map_err(|error| match error {
            CallError::Mismatch(error) => {
                Failure::Other(Printable::line(&format!("{error:#}"), 400).into())
            }
            CallError::Failed(failure) => failure,
        })
    }

    /// For logs and messages.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.guest.name
    }
}

impl Guest {
    /// Runs `call` in a fresh instance.
    fn enter<T>(
        &self,
        call: impl FnOnce(&mut Store<CallState>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<T, CallError> {
        let runtime =
            Runtime::of(self.origin).map_err(|words| CallError::Failed(Failure::Other(words)))?;
        let _running = runtime.ticker.run();
        let state = CallState::new(Arc::clone(&self.name), self.limits);
        let mut store = Store::new(&runtime.engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(ANSWER_BYTES);
        // Each tick only checks the clock. On a busy machine ticks are late, so counting them would
        // add up the delays.
        let deadline = self.limits.deadline();
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| match deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Trap::Interrupt.into()),
            _ => Ok(UpdateDeadline::Continue(1)),
        });
        let result =
            self.pre.instantiate(&mut store).and_then(|instance| call(&mut store, &instance));
        result.map_err(|error| {
            match explain::stopped(&error, self.limits, store.data().memory_denied) {
                Some(failure) => CallError::Failed(failure),
                None => CallError::Mismatch(error),
            }
        })
    }
}

/// Why a call failed.
enum CallError {
    /// The component does not implement the contract.
    Mismatch(wasmtime::Error),
    /// The guest ran, and was stopped.
    Failed(Failure),
}

/// The function that a component exports for `point`.
fn find(point: ExtensionPoint, component: &Component) -> wasmtime::Result<ComponentExportIndex> {
    let (interface, function) = (explain::export(point), point.function());
    let found = component.get_export_index(None, &interface);
    found
        .and_then(|found| component.get_export_index(Some(&found), function))
        .ok_or_else(|| wasmtime::Error::msg(format!("`{interface}` has no function `{function}`")))
}

/// Checks the types of an instance's function for `point`.
fn check_types(
    point: ExtensionPoint,
    function: ComponentExportIndex,
    store: &mut Store<CallState>,
    instance: &Instance,
) -> wasmtime::Result<()> {
    fn has_types<Q: Question>(
        function: ComponentExportIndex,
        store: &mut Store<CallState>,
        instance: &Instance,
    ) -> wasmtime::Result<()> {
        let function: wasmtime::Result<Asked<'_, Q>> = instance.get_typed_func(store, function);
        function.map(drop)
    }
    match point {
        ExtensionPoint::Selection => has_types::<Select>(function, store, instance),
        ExtensionPoint::Compatibility => has_types::<Check>(function, store, instance),
        ExtensionPoint::Estimate => has_types::<EstimateDuration>(function, store, instance),
        ExtensionPoint::Queueing => has_types::<OrderLine>(function, store, instance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::types::{Property, Value};
    use crate::questions::Select;
    use crate::{LocalTime, facts};
    use sleap_rtc_protocol::capabilities::WorkerFacts;
    use sleap_rtc_protocol::job::{JobDescription, JobType};
    use sleap_rtc_protocol::signaling::PeerInfo;

    #[test]
    fn a_large_plugin_asks_for_patience() {
        let said = patience(18_000_000, None);
        assert!(said.starts_with("18 MB take about 9 s; this happens at every start"), "{said}");
    }

    #[test]
    fn calls_beyond_the_places_of_the_pool_wait_for_their_turn() {
        let plugin = crate::source::load_embedded(ExtensionPoint::Selection, None).unwrap();
        let select = Select {
            context: facts::context(None, &[], LocalTime::ORDINARY),
            job: facts::job(&JobDescription::unknown(JobType::Training)),
            workers: Vec::new(),
        };
        let start = std::sync::Barrier::new(3 * POOLED_CALLS);
        std::thread::scope(|scope| {
            for _ in 0..3 * POOLED_CALLS {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..50 {
                        assert!(plugin.ask(&select).unwrap().choices.is_empty());
                    }
                });
            }
        });
    }

    #[test]
    fn each_failure_has_its_message() {
        let bytes = std::fs::read(test_guests::dir().join("hostile-guest.wasm")).unwrap();
        let load = |timeout_ms| {
            let limits = CallLimits { timeout_ms, memory_mib: 64 };
            let (point, origin) = (ExtensionPoint::Selection, Origin::File);
            Plugin::load("hostile", &bytes, point, limits, origin, None).unwrap()
        };
        let (endless, other) = (load(200), load(60_000));
        let peer: PeerInfo = serde_json::from_value(serde_json::json!({
            "peer_id": "w", "role": "worker", "metadata": {}, "connected_at": null,
        }))
        .unwrap();
        let worker = facts::worker(&WorkerFacts::from_peer(&peer));
        let cases = [
            ("loop", "it did not answer within 200 ms"),
            ("log-loop", "it did not answer within 200 ms"),
            ("recurse", "its stack overflowed"),
            ("grow", "it needed more than 64 MiB of memory"),
            ("panic", "it panicked (reached `unreachable`)"),
            ("huge", "its answer is larger than 16 MiB"),
            ("many", "its answer is larger than 16 MiB"),
            ("not-text", "its answer breaks the contract: it passed a text that is not UTF-8"),
            ("log-not-text", "its answer breaks the contract: it passed a text that is not"),
            ("error", "it says: the setting \"do\" says so"),
            ("nan", "its answer breaks the contract: the score of worker 0 is NaN"),
            ("out-of-range", "its answer breaks the contract: it names worker 1 of 1"),
            ("twice", "its answer breaks the contract: it names worker 0 twice"),
        ];
        for (deed, expected) in cases {
            let setting = Property { key: "do".into(), value: Value::Text(deed.into()) };
            let question = Select {
                context: facts::context(None, &[setting], LocalTime::ORDINARY),
                job: facts::job(&JobDescription::unknown(JobType::Training)),
                workers: vec![worker.clone()],
            };
            let guest = if deed.ends_with("loop") { &endless } else { &other };
            let failure = guest.ask(&question).unwrap_err().to_string();
            assert!(failure.starts_with(expected), "{deed}: {failure}");
        }
    }
}
