//! A network namespace that lives as long as its value. One of our threads is in it, and everything that
//! the thread opens or starts is in it, too.

use anyhow::{Context, Result, anyhow, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

type Work = Box<dyn FnOnce() + Send>;

/// A namespace without a name. It ends when the value is dropped and its last process has ended.
pub struct Namespace {
    work: Option<mpsc::SyncSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Creates a namespace with only its loopback, which is up. Needs root and iproute2.
    pub fn new() -> Result<Self> {
        let (work, todo) = mpsc::sync_channel::<Work>(1);
        let (say, entered) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            let own = unshare();
            let ready = own.is_ok();
            // The receiver is gone only if the caller is, and then there is nothing to do.
            let _ = say.send(own);
            while ready && let Ok(work) = todo.recv() {
                work();
            }
        });
        entered.recv()?.context("cannot create a network namespace, which needs root")?;
        let namespace = Self { work: Some(work), thread: Some(thread) };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Runs `work` on the thread in the namespace. Sockets and processes that it opens stay there.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (say, done) = mpsc::sync_channel(1);
        let thread = self.work.as_ref().ok_or_else(|| anyhow!("the namespace is gone"))?;
        let work = Box::new(move || {
            // The caller waits for the result below.
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
    #[expect(unsafe_code, reason = "no safe function creates a network namespace")]
    // SAFETY: both namespaces belong to this thread only. No file descriptor is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("sysfs", "/sys", "sysfs", MountFlags::RDONLY, None)
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.work.take();
        if let Some(thread) = self.thread.take() {
            // The panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}
