//! A control group (cgroup v2) for a trainer, where the system leaves a subtree to this process. The kernel
//! then ends all processes in it at once, however fast they multiply. Elsewhere, and for processes that had
//! started before it took the trainer in, [`super::processes`] ends all descendants.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted: alone, or beside that of version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// systemd marks groups with these attributes when a unit has `Delegate=yes`.
const MARKS: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// A group for one trainer and its descendants. Dropping the value removes the empty group.
#[derive(Debug)]
pub struct TrainerCgroup(PathBuf);

impl TrainerCgroup {
    /// Creates a group below this process's own. `None` if that is not left to this user, or if the kernel
    /// cannot end a group (before Linux 5.14).
    pub fn create() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        MOUNTS.iter().find_map(|mount| Self::below(&Path::new(mount).join(own)))
    }

    fn below(own: &Path) -> Option<Self> {
        if !own.join("cgroup.procs").exists() || !is_delegated(own) {
            return None;
        }
        let group = own.join(format!("sleap-rtc-{}", std::process::id()));
        match fs::create_dir(&group) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                tracing::debug!(group = %group.display(), %error, "cannot create a control group");
                return None;
            }
            _ => {}
        }
        let group = Self(group);
        group.0.join("cgroup.kill").exists().then_some(group)
    }

    /// Moves a process into the group. Its later children are born there.
    pub fn take(&self, pid: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }

    /// Kills all processes in the group.
    pub fn kill(&self) {
        if let Err(error) = fs::write(self.0.join("cgroup.kill"), "1") {
            tracing::warn!(group = %self.0.display(), %error, "cannot end a control group");
        }
    }
}

impl Drop for TrainerCgroup {
    fn drop(&mut self) {
        // It stays if a process in it is still dying. It is empty then, and costs nothing.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Whether this user may manage the groups below `own`.
fn is_delegated(own: &Path) -> bool {
    let user = rustix::process::geteuid();
    let is_owned = own.metadata().is_ok_and(|there| there.uid() == user.as_raw());
    let is_marked = MARKS.iter().any(|mark| {
        let mut value = [0; 2];
        rustix::fs::getxattr(own, *mark, &mut value).is_ok_and(|length| value[..length] == *b"1")
    });
    // The root user owns every group, also those that systemd manages alone.
    is_owned && (!user.is_root() || is_marked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::XattrFlags;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// A group of this test's own, below the root of the hierarchy.
    fn group() -> Option<PathBuf> {
        let mount = MOUNTS.iter().find(|mount| Path::new(mount).join("cgroup.procs").exists())?;
        let group = Path::new(mount).join(format!("sleap-rtc-test-{}", std::process::id()));
        fs::create_dir(&group).ok().map(|()| group)
    }

    #[test]
    fn the_kernel_ends_a_group_that_is_left_to_this_user() {
        let Some(own) = group() else {
            println!("not run: no control groups can be created here");
            return;
        };
        let done = std::panic::catch_unwind(|| {
            if rustix::process::geteuid().is_root() {
                assert!(TrainerCgroup::below(&own).is_none(), "nobody has left it to this user");
                rustix::fs::setxattr(&own, MARKS[1], b"1", XattrFlags::empty()).unwrap();
            }
            let group = TrainerCgroup::below(&own).unwrap();
            let mut tree =
                Command::new("sh").args(["-c", "setsid sleep 600 & wait"]).spawn().unwrap();
            group.take(tree.id()).unwrap();
            group.kill();
            assert_eq!(tree.wait().unwrap().signal(), Some(9));
            let empty = || fs::read_to_string(group.0.join("cgroup.procs")).unwrap().is_empty();
            assert!((0..1000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                empty()
            }));
        });
        fs::remove_dir(&own).unwrap();
        done.unwrap();
    }
}
