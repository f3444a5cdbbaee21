//! A network namespace that lives as long as its value: one thread of ours is in it, and whatever
//! that thread opens or starts is in it too.

use anyhow::{Context, Result, anyhow, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

type Work = Box<dyn FnOnce() + Send>;

/// A namespace without a name: gone, with all that is in it, when this is dropped and the last
/// process in it has ended.
pub struct Namespace {
    work: Option<mpsc::SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// A new namespace with nothing but its loopback, which is up. Needs root and iproute2.
    pub fn new() -> Result<Self> {
        let (work, todo) = mpsc::sync_channel::<Work>(1);
        let (say, entered) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let own = unshare();
            let ready = own.is_ok();
            // Nobody listens only if the caller has gone, and then there is nothing to do.
            let _ = say.send(own);
            while ready && let Ok(work) = todo.recv() {
                work();
            }
        });
        entered.recv()?.context("no network namespace of our own: that needs root")?;
        let namespace = Self { work: Some(work), thread: Some(thread) };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Does `work` on the thread that is in the namespace: sockets and processes that it opens
    /// belong there for good.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (say, done) = mpsc::sync_channel(1);
        let thread = self.work.as_ref().ok_or_else(|| anyhow!("the namespace is gone"))?;
        let work = Box::new(move || {
            // The one who asked waits below.
            let _ = say.send(work());
        });
        thread.send(work).map_err(|_| anyhow!("the namespace's thread has ended"))?;
        Ok(done.recv()?)
    }

    /// Runs `ip ARGUMENTS` in the namespace.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let line = format!("ip {}", arguments.join(" "));
        let done = self.run(move || Command::new("ip").args(&arguments).output())?;
        let done = done.with_context(|| format!("{line}: iproute2 is not installed"))?;
        ensure!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(())
    }
}

/// Gives this thread a network of its own, and a `/sys` that shows it.
fn unshare() -> rustix::io::Result<()> {
    #[expect(unsafe_code, reason = "there is no other way to a namespace of our own")]
    // SAFETY: both namespaces are the thread's own; no file descriptor is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("sysfs", "/sys", "sysfs", MountFlags::RDONLY, None)
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.work.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been shown already.
            let _ = thread.join();
        }
    }
}
