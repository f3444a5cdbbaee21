//! Translates wasmtime's errors for authors of plugins.

use super::ExtensionPoint;
use super::component::Failure;
use super::limits::CallLimits;
use sleap_rtc_protocol::text::Printable;
use wasmtime::Trap;

/// The WIT package that this host supports.
const PACKAGE: &str = "sleap-rtc:policy/";
const VERSION: &str = "0.1.0";

/// Recognizes components by their first eight bytes.
pub(crate) fn check_header(bytes: &[u8]) -> Result<(), String> {
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if bytes.starts_with(COMPONENT) {
        Ok(())
    } else if bytes.starts_with(CORE_MODULE) {
        Err("it is a core WebAssembly module, not a component: convert it with \
             `wasm-tools component new FILE -o PLUGIN.wasm`"
            .into())
    } else {
        Err("it is not a WebAssembly component".into())
    }
}

/// Why a file with a component's header does not compile.
pub(crate) fn not_compiled(error: &wasmtime::Error) -> String {
    let error = format!("{error:#}");
    let cut = ["unexpected end", "extends past end", "is out of bounds (bound"];
    if cut.iter().any(|words| error.contains(words)) {
        "the file is truncated: copy or build it again".into()
    } else {
        format!(
            "it is damaged, or uses WebAssembly features that this host lacks: {}",
            Printable::line(&error, 300)
        )
    }
}

/// Why a component cannot be used at `point`, judging by its imports and exports.
pub(crate) fn not_usable(
    point: ExtensionPoint,
    imports: &[String],
    exports: &[String],
    error: &wasmtime::Error,
) -> String {
    if let Some(why) = foreign(imports, exports).or_else(|| no_address_space(error)) {
        return why;
    }
    let wanted = export(point);
    if !exports.contains(&wanted) {
        return format!(
            "it does not export `{wanted}` (it exports {}): build it for the world `{}` or \
             `full-plugin`",
            listed(exports),
            point.world()
        );
    }
    format!(
        "its records or functions differ from version {VERSION} of the contract: build it with \
         the host's unmodified WIT ({})",
        Printable::line(&format!("{error:#}"), 300)
    )
}

/// The message for a system without enough address space. The component itself is valid.
fn no_address_space(error: &wasmtime::Error) -> Option<String> {
    let text = format!("{error:#}");
    text.contains("mmap").then(|| {
        format!(
            "there is not enough address space for it (`ulimit -v`, or h_vmem of the batch system, \
             limits this process): raise the limit ({})",
            Printable::line(&text, 300)
        )
    })
}

/// Why a component without an extension point is not a plugin.
pub(crate) fn no_extension_point(imports: &[String], exports: &[String]) -> String {
    foreign(imports, exports).unwrap_or_else(|| {
        format!(
            "it exports none of the extension points of `sleap-rtc:policy@{VERSION}` (it exports {}): \
             build it for the world `full-plugin`, or for one of `selection-plugin`, \
             `compatibility-plugin`, `estimation-plugin` and `queueing-plugin`",
            listed(exports)
        )
    })
}

/// The name under which a plugin exports `point`.
pub(crate) fn export(point: ExtensionPoint) -> String {
    format!("{PACKAGE}{}@{VERSION}", point.interface())
}

/// An import or export that a plugin of this version must not have, if there is one.
fn foreign(imports: &[String], exports: &[String]) -> Option<String> {
    if let Some(why) = another_version(imports, exports) {
        return Some(why);
    }
    let mut foreign = imports.iter().filter(|name| !name.starts_with(PACKAGE));
    let first = foreign.next()?;
    let others = match foreign.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "it imports `{first}`{others}, but a policy can import only `log`: no files, clock, \
         randomness or network. Build Rust for wasm32-unknown-unknown; for other languages, use \
         their tool's option to stub WASI"
    ))
}

/// Why a component for another version of the contract cannot be used. The engine would accept some
/// compatible versions, but the host may lack what they rely on.
pub(crate) fn another_version(imports: &[String], exports: &[String]) -> Option<String> {
    let other = imports.iter().chain(exports).find(|name| other_version(name))?;
    Some(format!(
        "it was built for `{other}`, but this host supports version {VERSION}: build it with the \
         host's WIT"
    ))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

fn other_version(name: &str) -> bool {
    name.strip_prefix(PACKAGE)
        .and_then(|rest| rest.split_once('@'))
        .is_some_and(|(_, version)| version != VERSION)
}

/// The limit that stopped a guest, or the guest's own failure.
pub(crate) fn stopped(
    error: &wasmtime::Error,
    limits: CallLimits,
    memory_denied: bool,
) -> Option<Failure> {
    let trap = error.downcast_ref::<Trap>();
    match trap {
        Some(Trap::Interrupt) => Some(Failure::Timeout(limits.timeout_ms)),
        Some(Trap::StackOverflow) => Some(Failure::Stack),
        _ if memory_denied => Some(Failure::Memory(limits.memory_mib)),
        Some(Trap::UnreachableCodeReached) => Some(Failure::Panic),
        Some(trap) => Some(Failure::Other(trap.to_string())),
        None => refused_by_engine(&format!("{error:#}")),
    }
}

/// Errors for which the engine has a message but no trap.
fn refused_by_engine(error: &str) -> Option<Failure> {
    let says = |words: &str| error.contains(words);
    if says("fuel allocated for hostcalls") {
        Some(Failure::AnswerTooLarge)
    } else if says("invalid utf-8") || says("incomplete utf-8") {
        Some(Failure::BadAnswer("it passed a text that is not UTF-8".into()))
    } else if says("resource limit exceeded") || says("exceeds table limits") {
        Some(Failure::Size(Printable::line(error, 200).into()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(imports: &[&str], exports: &[&str]) -> String {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let error = wasmtime::Error::msg("type mismatch");
        not_usable(ExtensionPoint::Selection, &own(imports), &own(exports), &error)
    }

    #[test]
    fn a_lack_of_address_space_is_not_the_plugins_fault() {
        let error = wasmtime::Error::msg("mmap failed to reserve 0x104000000 bytes");
        let wanted = [export(ExtensionPoint::Selection)];
        let why = not_usable(ExtensionPoint::Selection, &[], &wanted, &error);
        assert!(why.contains("ulimit -v") && !why.contains("contract"), "{why}");
    }

    #[test]
    fn a_mismatch_is_named() {
        let wasi = explained(&["wasi:cli/environment@0.2.0", "wasi:io/poll@0.2.0"], &[]);
        assert!(wasi.contains("`wasi:cli/environment@0.2.0` and 1 more"), "{wasi}");
        let other = explained(&["sleap-rtc:policy/log@0.2.0"], &[]);
        assert!(other.contains("log@0.2.0") && other.contains("supports version 0.1.0"), "{other}");
        let wrong = explained(&[], &["sleap-rtc:policy/estimation@0.1.0"]);
        assert!(wrong.contains("world `selection-plugin`"), "{wrong}");
        let changed = explained(&[], &["sleap-rtc:policy/selection@0.1.0"]);
        assert!(changed.contains("type mismatch"), "{changed}");
        let none = no_extension_point(&[], &["a:b/c@1.0.0".into()]);
        assert!(
            none.contains("it exports a:b/c@1.0.0") && none.contains("queueing-plugin"),
            "{none}"
        );
    }
}
