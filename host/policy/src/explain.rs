//! What wasmtime says, in the words of somebody who writes a plugin.

use super::ExtensionPoint;
use super::component::Failure;
use super::limits::Limits;
use super::text::one_line;
use wasmtime::Trap;

/// The package that this host speaks.
const PACKAGE: &str = "sleap-rtc:policy/";
const VERSION: &str = "0.1.0";

/// Tells components from everything else by their first eight bytes.
pub(super) fn check_header(bytes: &[u8]) -> Result<(), String> {
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    if bytes.starts_with(COMPONENT) {
        Ok(())
    } else if bytes.starts_with(CORE_MODULE) {
        Err("it is a core WebAssembly module, not a component: make a component of it with \
             `wasm-tools component new FILE -o PLUGIN.wasm`"
            .into())
    } else {
        Err("it is not a WebAssembly component".into())
    }
}

/// Why bytes that begin like a component do not compile.
pub(super) fn not_compiled(error: &wasmtime::Error) -> String {
    let error = format!("{error:#}");
    let cut = ["unexpected end", "extends past end", "is out of bounds (bound"];
    if cut.iter().any(|words| error.contains(words)) {
        "the file is cut off: copy or build it again".into()
    } else {
        format!(
            "it is damaged, or uses WebAssembly that this host lacks: {}",
            one_line(&error, 300)
        )
    }
}

/// Why a component cannot stand at `point`, seen from what it imports and exports.
pub(super) fn not_usable(
    point: ExtensionPoint,
    imports: &[String],
    exports: &[String],
    error: &wasmtime::Error,
) -> String {
    if let Some(why) = foreign(imports, exports) {
        return why;
    }
    let wanted = export(point);
    if !exports.contains(&wanted) {
        return format!(
            "it does not export `{wanted}` (it exports {}): build it for the world `{}` or \
             `policy-plugin`",
            listed(exports),
            point.world()
        );
    }
    format!(
        "its records or functions differ from version {VERSION} of the contract: build it with \
         the host's WIT, unchanged ({})",
        one_line(&format!("{error:#}"), 300)
    )
}

/// Why a component that exports no extension point is no plugin.
pub(super) fn no_extension_point(imports: &[String], exports: &[String]) -> String {
    foreign(imports, exports).unwrap_or_else(|| {
        format!(
            "it exports none of the extension points of `sleap-rtc:policy@{VERSION}` (it exports {}): \
             build it for the world `policy-plugin`, or for one of `selection-plugin`, \
             `compatibility-plugin` and `estimation-plugin`",
            listed(exports)
        )
    })
}

/// The name under which a plugin exports `point`.
pub(super) fn export(point: ExtensionPoint) -> String {
    format!("{PACKAGE}{}@{VERSION}", point.interface())
}

/// What has no place in a plugin of this version, if anything.
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
        "it imports `{first}`{others}, but a policy gets nothing but `log`: no files, clock, \
         randomness or network. Build Rust for wasm32-unknown-unknown; give other languages' \
         tools the option that stubs WASI"
    ))
}

/// Why a component of another version of the contract is no plugin for this host. The engine would
/// let some of them pass, as versions go; what they rely on may still not be there.
pub(super) fn another_version(imports: &[String], exports: &[String]) -> Option<String> {
    let other = imports.iter().chain(exports).find(|name| other_version(name))?;
    Some(format!(
        "it was built for `{other}`, and this host speaks version {VERSION}: build it with the \
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

/// What stopped a guest, if a limit or the guest itself did.
pub(super) fn stopped(
    error: &wasmtime::Error,
    limits: Limits,
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

/// What the engine has no trap for: it says so in words only.
fn refused_by_engine(error: &str) -> Option<Failure> {
    let says = |words: &str| error.contains(words);
    if says("fuel allocated for hostcalls") {
        Some(Failure::AnswerTooLarge)
    } else if says("invalid utf-8") || says("incomplete utf-8") {
        Some(Failure::BadAnswer("a text that it hands over is not UTF-8".into()))
    } else if says("resource limit exceeded") || says("exceeds table limits") {
        Some(Failure::Size(one_line(error, 200)))
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
    fn what_does_not_fit_is_named() {
        let wasi = explained(&["wasi:cli/environment@0.2.0", "wasi:io/poll@0.2.0"], &[]);
        assert!(wasi.contains("`wasi:cli/environment@0.2.0` and 1 more"), "{wasi}");
        let other = explained(&["sleap-rtc:policy/log@0.2.0"], &[]);
        assert!(other.contains("log@0.2.0") && other.contains("speaks version 0.1.0"), "{other}");
        let wrong = explained(&[], &["sleap-rtc:policy/estimation@0.1.0"]);
        assert!(wrong.contains("world `selection-plugin`"), "{wrong}");
        let changed = explained(&[], &["sleap-rtc:policy/selection@0.1.0"]);
        assert!(changed.contains("type mismatch"), "{changed}");
        let none = no_extension_point(&[], &["a:b/c@1.0.0".into()]);
        assert!(
            none.contains("it exports a:b/c@1.0.0") && none.contains("policy-plugin"),
            "{none}"
        );
    }
}
