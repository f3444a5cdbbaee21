//! Files and folders.

use crate::os::DiskSpace;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{FileExt as _, MetadataExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use windows_sys::Win32::Foundation::ERROR_SHARING_VIOLATION;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_BASIC_INFO, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_DELETE_ON_CLOSE,
    FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_ATTRIBUTES, FileBasicInfo, GetDiskFreeSpaceExW,
    GetFileInformationByHandleEx,
};

/// Between the years 1601, from which Windows counts, and 1970, in units of 100 ns.
const UNTIL_1970: u64 = 116_444_736_000_000_000;

/// Reads and writes at a position. The file's own position may move.
pub trait FileExt {
    /// Reads bytes at `offset`, and returns how many.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// The system's, or the file ends before.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    buffer = &mut buffer[length..];
                    offset += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The system's.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

impl FileExt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.seek_read(buffer, offset)
    }

    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.seek_write(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    bytes = &bytes[length..];
                    offset += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The identity of a file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    volume: u64,
    index: u64,
}

impl FileId {
    /// Of the file at `path`. Follows links.
    ///
    /// # Errors
    /// The system's.
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::of_open(&look_at(path, FILE_FLAG_BACKUP_SEMANTICS)?)
    }

    /// Of what is at `path`, which may be a link.
    ///
    /// # Errors
    /// The system's.
    pub fn at_link(path: &Path) -> io::Result<Self> {
        Self::of_open(&look_at(path, FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)?)
    }

    /// Of an open file.
    ///
    /// # Errors
    /// The system's.
    pub fn of_open(file: &File) -> io::Result<Self> {
        let found = winapi_util::file::information(file)?;
        Ok(Self { volume: found.volume_serial_number(), index: found.file_index() })
    }
}

/// Opens what is at `path` only to look at it.
fn look_at(path: &Path, flags: u32) -> io::Result<File> {
    OpenOptions::new().access_mode(FILE_READ_ATTRIBUTES).custom_flags(flags).open(path)
}

/// A number that a file keeps when its name changes, and that other files hardly have: the time of its
/// creation, because `Metadata` has no other.
pub fn file_number(there: &Metadata) -> u64 {
    there.creation_time()
}

/// When the file's content or anything else about it last changed. Ordinary programs do not set this time
/// back, as they do with the time of the last write.
pub fn changed_at(path: &Path, _there: &Metadata) -> Option<SystemTime> {
    let file = look_at(path, FILE_FLAG_BACKUP_SEMANTICS).ok()?;
    let mut found = FILE_BASIC_INFO::default();
    // SAFETY: the handle is open for as long as `file` lives, and `found` is what this class of information
    // fills, with its true size.
    #[expect(unsafe_code, reason = "the standard library does not tell this time yet")]
    let is_told = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            FileBasicInfo,
            (&raw mut found).cast(),
            size_of::<FILE_BASIC_INFO>() as u32,
        )
    };
    let since_1970 = u64::try_from(found.ChangeTime).ok()?.checked_sub(UNTIL_1970)?;
    (is_told != 0).then(|| UNIX_EPOCH + Duration::from_nanos(since_1970.saturating_mul(100)))
}

/// The space that a file takes on its disk, in bytes: its length, because holes are not looked for.
pub fn bytes_on_disk(there: &Metadata) -> u64 {
    there.len()
}

/// Whether its owner can run it: files do not say so here.
pub fn is_executable(_there: &Metadata) -> Option<bool> {
    None
}

/// Files need no permission to be run.
///
/// # Errors
/// None.
pub fn make_executable(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Files need no permission to be run.
///
/// # Errors
/// None.
pub fn make_plain(_path: &Path, _there: &Metadata) -> io::Result<()> {
    Ok(())
}

/// The folder decides who may read.
///
/// # Errors
/// None.
pub fn let_everybody_read(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Whether every user of the machine can read the file. `false` where its permissions do not say so.
pub fn everybody_can_read(_there: &Metadata) -> bool {
    false
}

/// The folder decides to whom a file belongs.
pub fn for_owner_alone(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Does not follow a link to the file.
pub fn without_links(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
}

/// Files do not let anybody wait here.
pub fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Opens a file to append to it, but not through a link. Creates it if it is missing.
///
/// # Errors
/// The system's.
pub fn append_privately(path: &Path) -> io::Result<File> {
    without_links(OpenOptions::new().append(true).create(true)).open(path)
}

/// Creates a folder and its missing parents. Leaves an existing one as it is.
///
/// # Errors
/// The system's.
pub fn create_private_folders(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Creates a folder.
///
/// # Errors
/// The system's, also if it exists.
pub fn create_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// Whether a folder is closed to other users: those of the user's profile are.
///
/// # Errors
/// The system's.
pub fn is_private_folder(path: &Path) -> io::Result<bool> {
    Ok(path.symlink_metadata()?.is_dir() && is_in_profile(path)?)
}

fn is_in_profile(path: &Path) -> io::Result<bool> {
    let Some(profile) = dirs::home_dir() else { return Ok(false) };
    Ok(path.canonicalize()?.starts_with(profile.canonicalize()?))
}

/// Its permissions are those of the folder that it is in.
///
/// # Errors
/// It is not a folder.
pub fn close_to_others(path: &Path) -> io::Result<bool> {
    match path.metadata()?.is_dir() {
        true => Ok(false),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// Why others could have written the file at `path`, and what to do. `None` if it is in the user's profile.
///
/// # Errors
/// The system's.
pub fn written_by_others(path: &Path) -> io::Result<Option<String>> {
    Ok((!is_in_profile(path)?)
        .then(|| "it is not below the folder of your profile; move it there".to_owned()))
}

/// A folder that other programs cannot lock while this value exists.
#[derive(Debug)]
pub struct LockedFolder(#[allow(dead_code, reason = "it is locked while it is open")] File);

/// Locks a folder by an empty file beside it, which goes away with the lock: folders have no locks of their
/// own here. Does not follow a link to the folder.
///
/// # Errors
/// Fails with [`io::ErrorKind::WouldBlock`] if another program has locked it, and otherwise if the system
/// does, or if it is not a folder.
pub fn lock_folder(path: &Path) -> io::Result<LockedFolder> {
    if !path.symlink_metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).share_mode(0);
    options.custom_flags(FILE_FLAG_DELETE_ON_CLOSE | FILE_FLAG_OPEN_REPARSE_POINT);
    let held =
        options.open(path.with_file_name(name)).map_err(|error| match error.raw_os_error() {
            Some(number) if number.cast_unsigned() == ERROR_SHARING_VIOLATION => {
                io::ErrorKind::WouldBlock.into()
            }
            _ => error,
        })?;
    match path.symlink_metadata()?.is_dir() {
        true => Ok(LockedFolder(held)),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Copies the file `target` to `place`: users may not create links.
///
/// # Errors
/// The system's.
pub fn link_file(target: &Path, place: &Path) -> io::Result<()> {
    fs::copy(target, place).map(drop)
}

/// The space on the disk of `folder`.
///
/// # Errors
/// The system's.
pub fn disk_space(folder: &Path) -> io::Result<DiskSpace> {
    let path: Vec<u16> = folder.as_os_str().encode_wide().chain([0]).collect();
    let (mut free_bytes, mut total_bytes) = (0, 0);
    // SAFETY: `path` ends in NUL, both numbers outlive the call, and the third result is not asked for.
    #[expect(unsafe_code, reason = "the standard library does not tell the free space")]
    let is_told = unsafe {
        GetDiskFreeSpaceExW(
            path.as_ptr(),
            &raw mut free_bytes,
            &raw mut total_bytes,
            std::ptr::null_mut(),
        )
    };
    match is_told {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(DiskSpace { free_bytes, total_bytes, has_inodes: true }),
    }
}

/// Has the file system of `folder` write what it holds back. Here, removed files count no longer at once.
///
/// # Errors
/// None.
pub fn sync_disk(_folder: &Path) -> io::Result<()> {
    Ok(())
}
